"""The worker's port: /healthz, /metrics and /progress, served by the launcher from what its ranks leave in their status files."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from trainwright_runtime import metrics
from trainwright_runtime.launch.gpus import read_gpus
from trainwright_runtime.launch.status import progress, read_statuses

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
IDLE_SECONDS = 30.0
"""How long a connection may say nothing before its thread gives it up."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A scraper that hangs up is no news for the log of a training.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(address: str, port: int, directory: Path) -> ThreadingHTTPServer:
    """Serve in a daemon thread until the process ends; raises OSError when the port can't be had."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = IDLE_SECONDS

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/healthz":
                    self._answer(200, "text/plain; charset=utf-8", b"ok\n")
                case "/metrics":
                    self._answer(200, CONTENT_TYPE, metrics.render(read_statuses(directory), read_gpus()))
                case "/progress":
                    self._answer(200, "application/json", json.dumps(progress(read_statuses(directory))).encode())
                case _:
                    self._answer(404, "text/plain; charset=utf-8", b"there are /healthz, /metrics and /progress\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A line a scrape would bury the log of the training."""

    server = _Server((address, port), Handler)
    threading.Thread(target=server.serve_forever, name="trainwright-port", daemon=True).start()
    return server

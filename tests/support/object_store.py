"""A real S3 server over a folder: versitygw, built from its Go module like the control plane's programs."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from trainwright.local import binaries

KEY, SECRET = "AKIATRAINWRIGHT", "of-this-test-only"


class ObjectStore:
    """One server on loopback with one bucket. It may be stopped and started again: the address and the objects stay."""

    def __init__(self, folder: Path, port: int) -> None:
        self.bucket = folder / "objects" / "runs"
        self.bucket.mkdir(parents=True)
        (folder / "meta").mkdir()
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._program = binaries.ensure(print, (binaries.OBJECT_STORE,))[binaries.OBJECT_STORE.name]

    def start(self) -> None:
        """Return when it answers."""
        options = [f"--port=127.0.0.1:{self._port}", f"--access={KEY}", f"--secret={SECRET}", "--quiet"]
        backend = ["posix", f"--sidecar={self._folder / 'meta'}", str(self._folder / "objects")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *options, *backend], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}", timeout=2).close()
            except urllib.error.HTTPError:
                return  # it knows us not, and so it is there
            except OSError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def env(self, secret: str = SECRET) -> list[dict[str, Any]]:
        """What a job's workers need to reach it."""
        values = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return [{"name": name, "value": value} for name, value in values.items()]

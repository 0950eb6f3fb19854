"""The part of a kubelet's HTTPS that the API server calls for `kubectl logs`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from trainwright.local.node import ProcessNode

POLL_SECONDS = 0.1
CHUNK = 64 * 1024


@asynccontextmanager
async def serving(node: ProcessNode, *, host: str, port: int, pki: Path) -> AsyncIterator[None]:
    """Serve while the block runs, to clients with a certificate of the twin's CA only."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(str(pki / "node.crt"), str(pki / "node.key"))

    async def logs(request: web.Request) -> web.StreamResponse:
        return await _logs(node, request)

    app = web.Application()
    app.add_routes([web.get("/containerLogs/{namespace}/{pod}/{container}", logs)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()


async def _logs(node: ProcessNode, request: web.Request) -> web.StreamResponse:
    namespace, pod = request.match_info["namespace"], request.match_info["pod"]
    for option in ("timestamps", "sinceSeconds", "sinceTime", "previous"):
        if request.query.get(option, "false") not in ("false", "0", ""):
            raise web.HTTPBadRequest(
                text=f"the process node's logs know no {option}; accepted are follow, tailLines and limitBytes\n"
            )
    path = node.log_file(namespace, pod)
    if path is None:
        raise web.HTTPNotFound(text=f"pod {namespace}/{pod} does not run on node {node.name}\n")
    follow = request.query.get("follow") == "true"
    left = int(request.query.get("limitBytes", 0)) or None
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await response.prepare(request)
    with path.open("rb") as log:
        log.seek(_tail(path, request.query.get("tailLines")))
        while True:
            finished = node.finished(namespace, pod)
            while chunk := log.read(CHUNK if left is None else min(CHUNK, left)):
                await response.write(chunk)
                left = None if left is None else left - len(chunk)
            if not follow or finished or left == 0:
                break
            await asyncio.sleep(POLL_SECONDS)
    return response


def _tail(path: Path, lines: str | None) -> int:
    """Where the last so many lines begin, in bytes."""
    if lines is None:
        return 0
    content = path.read_bytes()
    kept = content.splitlines(keepends=True)[-int(lines) :] if int(lines) else []
    return len(content) - sum(map(len, kept))

"""`python -m bench.serving.backend ADDRESS`: a server that says what TorchServe would, without a model."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

ANSWER = b'{"outputs": {"logits": [[0.125, -0.5, 1.75]]}, "classes": ["b"]}'


async def _answer(request: web.BaseRequest) -> web.Response:
    if request.method == "GET":
        return web.json_response({"status": "Healthy"})
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def main() -> None:
    runner = web.ServerRunner(web.Server(_answer))
    await runner.setup()
    await web.TCPSite(runner, sys.argv[1], 8080).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

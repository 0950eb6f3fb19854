"""What the gateway meets: published versions on disk, servers that answer by their real protocols on real sockets, and itself as
a process. The servers' models are a line of numpy; everything between a client's socket and that is as it is in a cluster.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from published import MODEL, answer_of, body_of, path_of, rows

from trainwright_gateway.tfserving_api import model_service_pb2 as api
from trainwright_gateway.tfserving_api import model_service_pb2_grpc as service

PORTS = {"tfserving": 8501, "torchserve": 8080, "sklearn": 8080}
UNCHECKED = {"smoke": False, "warmup": 0}
"""A `check` that asks servers nothing, for tests that count what they are asked."""
_hosts = itertools.count(random.randrange(10**7))


def new_host() -> str:
    """An address of this machine that no one else is likely to use: ports are given, addresses are free."""
    number = next(_hosts)
    return f"127.{1 + number // 62_500 % 250}.{number // 250 % 250}.{1 + number % 250}"


async def eventually(condition: Any, *, within: float = 15.0, what: str = "") -> Any:
    """The first truthy value of `condition`; fails with the last one seen when the deadline passes."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        value = await value if inspect.isawaitable(value) else value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or inspect.getsource(condition)}; last seen: {value!r:.2000}")
        await asyncio.sleep(0.02)


class Backend:
    """One server on its own address. `mode` is how it behaves: ok, reset, 503, 500, slow (until `release`), or hang."""

    def __init__(self, server: str, version: int = 1, *, host: str | None = None) -> None:
        self.server = server
        self.host = host or new_host()
        self.versions = {version: "AVAILABLE"}
        self.version = version
        self.mode = "ok"
        self.release = asyncio.Event()
        self.delay = 0.0
        self.answered: list[tuple[int, Any]] = []
        self.asked = 0
        self.labels: dict[str, int] = {}
        self.configs: list[api.ModelConfig] = []
        self.refuse: str | None = None
        self._runner: web.ServerRunner | None = None
        self._grpc: Any = None

    async def start(self) -> Backend:
        self._runner = web.ServerRunner(web.Server(self._handle), handler_cancellation=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, PORTS[self.server], reuse_address=True).start()
        if self.server == "tfserving":
            self._grpc = grpc.aio.server()
            service.add_ModelServiceServicer_to_server(_ModelService(self), self._grpc)
            self._grpc.add_insecure_port(f"{self.host}:8500")
            await self._grpc.start()
        return self

    async def stop(self) -> None:
        """As by SIGKILL: connections are reset, nothing listens any more."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for site in list(runner.sites):
            await site.stop()
        for connection in list(runner.server.connections):  # type: ignore[union-attr]
            if connection.transport is not None:
                connection.transport.abort()
        self.release.set()
        await runner.cleanup()
        if self._grpc is not None:
            await self._grpc.stop(None)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, body = request.path, await request.read()
        if request.method == "GET" and self.mode != "hang":
            return self._status(path)
        self.asked += 1
        version = self._version_of(path)
        if self.mode == "reset":
            request.transport.abort()  # type: ignore[union-attr]
            return web.Response()
        if self.mode in {"503", "500"}:
            return web.json_response({"error": "busy"}, status=int(self.mode))
        if self.mode == "slow":
            await self.release.wait()
        if self.mode == "hang":
            await asyncio.Event().wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.versions.get(version) != "AVAILABLE":
            return web.json_response({"error": f"Servable not found for request: Specific({MODEL}, {version})"}, status=404)
        try:
            answer = answer_of(self.server, json.loads(body), version)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return web.json_response({"error": "bad input"}, status=400)
        self.answered.append((version, request.headers.copy()))
        return web.json_response(answer, headers={"x-server": self.host})

    def _version_of(self, path: str) -> int:
        return int(path.partition("/versions/")[2].partition(":")[0]) if "/versions/" in path else self.version

    def _status(self, path: str) -> web.Response:
        if self.server == "torchserve":
            return web.json_response({"status": "Healthy"}, status=200)
        if self.server == "sklearn":
            return web.json_response({"name": MODEL, "ready": True})
        name, _, label = path.partition("/labels/")
        wanted = (
            [self.labels.get(label, -1)] if label else [self._version_of(path)] if "/versions/" in name else sorted(self.versions)
        )
        if not set(wanted) <= set(self.versions):
            return web.json_response({"error": "Could not find version"}, status=404)
        listed = [
            {"version": str(one), "state": self.versions[one], "status": {"error_code": "OK", "error_message": ""}}
            for one in wanted
        ]
        return web.json_response({"model_version_status": listed})


class _ModelService(service.ModelServiceServicer):
    """As TF Serving does: what isn't named is unloaded, and a label may only stand on a version that is available."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        (config,) = request.config.model_config_list.config
        self.backend.configs.append(config)
        if self.backend.refuse:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.backend.refuse)
        wanted = config.model_version_policy.specific.versions
        bad = [one for one in config.version_labels.values() if self.backend.versions.get(one) != "AVAILABLE"]
        self.backend.versions = {one: self.backend.versions.get(one, "LOADING") for one in wanted}
        if bad:
            return api.ReloadConfigResponse(status={"error_code": 9, "error_message": f"version {bad[0]} is not available"})
        self.backend.labels = dict(config.version_labels)
        return api.ReloadConfigResponse(status={"error_code": 0})


class Gateway:
    """The program `trainwright-gateway` as a process of its own, and a client's and an operator's view of it."""

    def __init__(self, server: str, models: Path, **environment: str) -> None:
        self.server = server
        self.host = new_host()
        self.environment = {
            "TRAINWRIGHT_DEPLOYMENT": "churn",
            "TRAINWRIGHT_NAMESPACE": "ml",
            "TRAINWRIGHT_SERVER": server,
            "TRAINWRIGHT_MODELS": str(models),
            "TRAINWRIGHT_POD_IP": self.host,
            "TRAINWRIGHT_POD_NAME": f"gateway-{self.host}",
            "TRAINWRIGHT_DRAIN_SECONDS": "0.2",
            **environment,
        }
        self.clients = f"http://{self.host}:8080"
        self.operations = f"http://{self.host}:9400"

    async def start(self) -> Gateway:
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        self.process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("trainwright-gateway")),
            env={**os.environ, **self.environment},
            stderr=asyncio.subprocess.PIPE,
        )
        self.log: list[str] = []
        self._reader = asyncio.create_task(self._read())
        await eventually(self._listens, what=f"the gateway answers; its log: {self.log}")
        return self

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), 30)
        await self._reader
        await self.session.close()

    async def sync(self, versions: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """What /sync answers."""
        async with self.session.put(f"{self.operations}/sync", json={"model": MODEL, "versions": versions, **more}) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def ask(self, body: Any = None, *, path: str | None = None, **headers: str) -> tuple[int, Any, Any]:
        """A prediction of one row unless told otherwise: status, answer, headers."""
        if body is None:
            body = body_of(self.server, *rows(1))
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.session.post(f"{self.clients}{path or path_of(self.server)}", data=content, headers=sent) as answer:
            found = await answer.read()
            return answer.status, json.loads(found) if found else None, answer.headers.copy()

    async def get(self, path: str, *, port: str | None = None) -> tuple[int, str]:
        async with self.session.get(f"{port or self.operations}{path}") as answer:
            return answer.status, await answer.text()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode().rstrip())

    async def _listens(self) -> bool:
        assert self.process.returncode is None, self.log
        try:
            async with self.session.get(f"{self.clients}/"):
                return True
        except aiohttp.ClientError:
            return False


def version(
    number: int, published: dict[str, str], *backends: Backend, role: str = "live", weight: float = 100, window: str = "w1"
) -> Any:
    """One of a sync's versions."""
    hosts = [one.host for one in backends]
    return {"version": number, "role": role, "weight": weight, **published, "addresses": hosts, "window": window}

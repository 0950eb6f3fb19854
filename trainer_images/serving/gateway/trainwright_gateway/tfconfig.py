"""What TF Serving has loaded, kept at what the sync names: by its ReloadConfig, on each address, whenever that differs.

Levels, not edges: a server that was started anew has forgotten all of it, and nothing tells the gateway. So each address is asked
for its versions and labels all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from trainwright_gateway.sync import Role, Sync
from trainwright_gateway.tfserving_api import model_service_pb2 as api
from trainwright_gateway.tfserving_api.model_service_pb2_grpc import ModelServiceStub
from trainwright_gateway.upstreams import url

REST, GRPC = 8501, 8500
LOOK_EVERY = 1.0
RELOAD_WITHIN = 60.0
REPEAT_AFTER = 10.0
"""Seconds until what was accepted is said again to a server that doesn't show it: loading takes its time."""
LABELS = {Role.LIVE: "stable", Role.CANDIDATE: "canary"}
GONE = ("END", "UNLOADING")

log = logging.getLogger(__name__)


class TfConfig:
    """Keeps the servers at the newest sync. `in_flight` is how many requests each version has: none when it is unloaded."""

    def __init__(self, models: Path, session: aiohttp.ClientSession, in_flight: Mapping[int, int]) -> None:
        self._base = str(models / "versions")
        self._session = session
        self._in_flight = in_flight
        self._sync: Sync | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}

    def follow(self, sync: Sync) -> None:
        self._sync = sync
        hosts = {host for one in sync.versions for host in one.hosts}
        for host in set(self._tasks) - hosts:
            self._tasks.pop(host).cancel()
        for host in hosts - set(self._tasks):
            self._wake[host] = asyncio.Event()
            self._tasks[host] = asyncio.create_task(self._keep(host))
        for host in hosts:
            self._wake[host].set()

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _keep(self, host: str) -> None:
        accepted: tuple[bytes, float] | None = None
        loop = asyncio.get_running_loop()
        complained = ""
        while True:
            self._wake[host].clear()
            wait, told_by = LOOK_EVERY, self._sync
            try:
                if (request := await self._difference(host)) is not None:
                    content = request.SerializeToString(deterministic=True)
                    if accepted is None or accepted[0] != content or loop.time() > accepted[1] + REPEAT_AFTER:
                        await self._drained(request)
                        if self._sync is not told_by:
                            continue
                        await self._reload(host, request)
                        accepted = (content, loop.time())
                        config = request.config.model_config_list.config[0]
                        loads = list(config.model_version_policy.specific.versions)
                        log.info("TF Serving on %s loads %s, labels %s", host, loads, dict(config.version_labels))
                        wait = LOOK_EVERY / 10
                complained = ""
            except (aiohttp.ClientError, OSError, grpc.aio.AioRpcError, _Refused) as error:
                words = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                # A server that is being started is no news; one that refuses is, once.
                if isinstance(error, _Refused | grpc.aio.AioRpcError) and str(words) != complained:
                    complained = str(words)
                    log.warning("TF Serving on %s didn't take its configuration: %s", host, words)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake[host].wait()

    async def _difference(self, host: str) -> api.ReloadConfigRequest | None:
        """What the server is to be told; None when it has all that the sync names."""
        if (sync := self._sync) is None:
            return None
        wanted = sorted(one.version for one in sync.versions if host in one.hosts)
        states = await self._states(host, sync.model)
        labels = {
            LABELS[one.role]: one.version
            for one in sync.versions
            if one.role in LABELS and host in one.hosts and states.get(one.version) == "AVAILABLE"
        }
        loaded = sorted(version for version, state in states.items() if state not in GONE)
        if loaded == wanted and all([await self._label(host, sync.model, name) == at for name, at in labels.items()]):
            return None
        policy = api.FileSystemStoragePathSourceConfig.ServableVersionPolicy(specific={"versions": wanted})
        config = api.ModelConfig(
            name=sync.model, base_path=self._base, model_platform="tensorflow", model_version_policy=policy, version_labels=labels
        )
        return api.ReloadConfigRequest(config=api.ModelServerConfig(model_config_list=api.ModelConfigList(config=[config])))

    async def _states(self, host: str, model: str) -> Mapping[int, str]:
        async with self._session.get(url(host, REST, f"/v1/models/{model}"), timeout=aiohttp.ClientTimeout(total=5)) as answer:
            body = await answer.read()
        try:
            found = json.loads(body).get("model_version_status", [])
            return {int(one["version"]): _state(one) for one in found}
        except (ValueError, LookupError, TypeError, AttributeError):
            return {}

    async def _label(self, host: str, model: str, label: str) -> int | None:
        path = url(host, REST, f"/v1/models/{model}/labels/{label}")
        async with self._session.get(path, timeout=aiohttp.ClientTimeout(total=5)) as answer:
            body = await answer.read()
        try:
            return int(json.loads(body)["model_version_status"][0]["version"])
        except (ValueError, LookupError, TypeError):
            return None

    async def _drained(self, request: api.ReloadConfigRequest) -> None:
        """Wait until no request is on its way to a version that is about to be unloaded."""
        sync = self._sync
        if sync is None:
            return
        kept = set(request.config.model_config_list.config[0].model_version_policy.specific.versions)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + sync.timeout_seconds
        while any(count for one, count in self._in_flight.items() if one not in kept) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def _reload(self, host: str, request: api.ReloadConfigRequest) -> None:
        address = f"[{host}]:{GRPC}" if ":" in host else f"{host}:{GRPC}"
        # Each call on a new channel: one that has lost its server waits longer and longer before it looks again.
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = ModelServiceStub(channel)  # type: ignore[no-untyped-call]
            answer = await stub.HandleReloadConfigRequest(request, timeout=RELOAD_WITHIN)
        if answer.status.error_code:
            raise _Refused(answer.status.error_message or f"error {answer.status.error_code}")


def _state(found: Mapping[str, Any]) -> str:
    """What failed to load has ended too, but is not to be loaded: saying it again would change nothing."""
    failed = found["state"] == "END" and found.get("status", {}).get("error_code", "OK") != "OK"
    return "FAILED" if failed else str(found["state"])


class _Refused(Exception):
    """The server answered that it won't."""

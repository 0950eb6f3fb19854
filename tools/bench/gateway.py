"""What a gateway costs beside its server asked directly: one that does nothing, and a real TorchServe with a tiny model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from bench.results import Figure
from bench.training import TOOLS
from bench.waiting import until
from trainwright.local import environments
from trainwright.local.paths import checkout

Say = Callable[[str], None]

MODEL = "tiny"
PATH = f"/predictions/{MODEL}"
BODY = json.dumps({"inputs": {"numbers": [[0.1 * number for number in range(8)]]}})
BACKENDS = {"nothing": "a server that does nothing", "torchserve": "TorchServe, a linear model"}
CONNECTIONS = (1, 8)
SYNCS = 300
FIGURES = {
    "gateway-added",
    *(f"gateway-{backend}-{connections}" for backend in BACKENDS for connections in CONNECTIONS),
    *(f"gateway-{backend}-rate" for backend in BACKENDS),
    "gateway-failures",
    "gateway-memory",
    "gateway-sync",
}


@dataclass
class Round:
    """What clients saw in one round of a few seconds."""

    latencies: list[float]
    seconds: float
    failures: list[str]

    def quantile(self, share: float) -> float:
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


@dataclass
class Rounds:
    """Rounds of the server asked directly, and through the gateway, taken in turns."""

    bare: list[Round] = field(default_factory=list)
    through: list[Round] = field(default_factory=list)

    def quantiles(self, share: float) -> tuple[list[float], list[float]]:
        return [one.quantile(share) for one in self.through], [one.quantile(share) for one in self.bare]

    @property
    def notes(self) -> dict[str, Any]:
        through, bare = self.quantiles(0.99)
        rates = {"rateThrough": [one.rate for one in self.through], "rateBare": [one.rate for one in self.bare]}
        return {"p99Through": through, "p99Bare": bare, **rates}


async def measure(*, quick: bool, say: Say) -> list[Figure]:
    """Latency and throughput in interleaved rounds, then memory and what a sync takes."""
    rounds, seconds = (3, 2.0) if quick else (7, 4.0)
    for image in ("gateway", "publisher", "torchserve"):
        await environments.ensure(checkout() / "trainer_images" / "serving" / image, say)
    figures: list[Figure] = []
    failures: list[str] = []
    async with _world() as world:
        for backend, what in BACKENDS.items():
            await world.use(backend)
            await _round(world.hosts[backend], 2, 1.0)
            await _round(world.gateway, 2, 1.0)
            for connections in CONNECTIONS:
                found = await _rounds(world, backend, connections, rounds, seconds)
                failures += [failure for one in (*found.bare, *found.through) for failure in one.failures]
                figures += _figures(backend, connections, found)
                through, bare = found.quantiles(0.5)
                p99 = statistics.median(found.notes["p99Through"]), statistics.median(found.notes["p99Bare"])
                rate = statistics.median(found.notes["rateThrough"]), statistics.median(found.notes["rateBare"])
                say(
                    f"  {what}, connections: {connections}; p50 {statistics.median(through) * 1e3:.2f} ms, "
                    f"bare {statistics.median(bare) * 1e3:.2f}; p99 {p99[0] * 1e3:.2f}, bare {p99[1] * 1e3:.2f}; "
                    f"{rate[0]:.0f} a second, bare {rate[1]:.0f}"
                )
        figures.append(Figure(name="gateway-failures", samples=[len(failures)], unit="", notes={"failures": failures[:20]}))
        figures.append(world.memory())
        figures.append(await world.syncs())
    return figures


def _figures(backend: str, connections: int, found: Rounds) -> list[Figure]:
    through, bare = found.quantiles(0.5)
    figures = [Figure(name=f"gateway-{backend}-{connections}", samples=through, floor=bare, notes=found.notes)]
    if connections == max(CONNECTIONS):
        rates = found.notes
        figures.append(
            Figure(name=f"gateway-{backend}-rate", samples=rates["rateThrough"], floor=rates["rateBare"], unit="a second")
        )
    elif backend == "nothing":
        figures.append(Figure(name="gateway-added", samples=[one - other for one, other in zip(through, bare, strict=True)]))
    return figures


async def _rounds(world: _World, backend: str, connections: int, rounds: int, seconds: float) -> Rounds:
    found = Rounds()
    for number in range(rounds):
        for is_bare in [True, False] if number % 2 == 0 else [False, True]:
            host = world.hosts[backend] if is_bare else world.gateway
            (found.bare if is_bare else found.through).append(await _round(host, connections, seconds))
    return found


async def _round(host: str, connections: int, seconds: float) -> Round:
    words = [host, PATH, str(connections), str(seconds), BODY]
    return Round(**json.loads(await _output("gateway", "-m", "bench.serving.client", *words)))


@dataclass
class _World:
    """Servers and a gateway in front of one of them. `hosts` by the servers' names."""

    hosts: dict[str, str]
    gateway: str
    process: psutil.Process
    seal: Mapping[str, str]
    session: aiohttp.ClientSession
    window: int = 0

    async def use(self, backend: str) -> None:
        """Have the gateway ask this server, and wait until it does."""
        self.window += 1
        self.told = self._sync(backend)

        async def available() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                return bool((await self._put())["versions"]["1"]["available"])
            return False

        await until(available, within=30, every=0.1, what=f"the gateway asks {backend}")

    def _sync(self, backend: str) -> dict[str, Any]:
        live = {"version": 1, "role": "live", "weight": 100, **self.seal, "addresses": [self.hosts[backend]]}
        return {
            "model": MODEL,
            "versions": [{**live, "window": str(self.window)}],
            "check": {"warmup": 0, "tolerance": 0.001, "timeoutSeconds": 30, "smoke": False},
        }

    async def _put(self) -> dict[str, Any]:
        async with self.session.put(f"http://{self.gateway}:9400/sync", json=self.told) as answer:
            found: dict[str, Any] = await answer.json()
            if answer.status != HTTPStatus.OK:
                raise RuntimeError(f"the gateway refuses the sync: {found}")
            return found

    def memory(self) -> Figure:
        """Resident memory after all that load, of the gateway and of its watcher."""
        own, children = self.process.memory_info().rss, self.process.children()
        watcher = sum(one.memory_info().rss for one in children)
        notes = {"gateway": own / 1e6, "watcher": watcher / 1e6}
        return Figure(name="gateway-memory", samples=[(own + watcher) / 1e6], unit="MB", notes=notes)

    async def syncs(self) -> Figure:
        """CPU seconds of the gateway for a sync that says nothing new, while drift is measured: one a second."""
        before, began = self.process.cpu_times(), time.perf_counter()
        for _ in range(SYNCS):
            await self._put()
        after, wall = self.process.cpu_times(), time.perf_counter() - began
        cpu = after.user + after.system - before.user - before.system
        return Figure(name="gateway-sync", samples=[cpu / SYNCS], notes={"latency": wall / SYNCS})


@contextlib.asynccontextmanager
async def _world() -> AsyncIterator[_World]:
    folder = checkout() / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        await _output("torchserve", "-m", "bench.serving.tiny", str(directory / "artifact"))
        seal = await published(directory / "artifact", directory / "models", server="torchserve", model=MODEL)
        hosts = {backend: _host() for backend in BACKENDS}
        await stack.enter_async_context(_running("gateway", "python", "-m", "bench.serving.backend", hosts["nothing"]))
        common = {"TRAINWRIGHT_MODELS": str(directory / "models"), "OMP_NUM_THREADS": "1"}
        serving = {"TRAINWRIGHT_MODEL_NAME": MODEL, "TRAINWRIGHT_VERSION": "1", "TRAINWRIGHT_RECORD": seal["record"]}
        await stack.enter_async_context(
            _running("torchserve", "trainwright-torchserve", **common, **serving, TRAINWRIGHT_POD_IP=hosts["torchserve"])
        )
        gateway = _host()
        named = {"TRAINWRIGHT_DEPLOYMENT": MODEL, "TRAINWRIGHT_NAMESPACE": "bench", "TRAINWRIGHT_SERVER": "torchserve"}
        where = {"TRAINWRIGHT_POD_IP": gateway, "TRAINWRIGHT_POD_NAME": "gateway"}
        process = await stack.enter_async_context(_running("gateway", "trainwright-gateway", **common, **named, **where))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        world = _World(hosts, gateway, psutil.Process(process.pid), seal, session)

        async def ready() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://{hosts['torchserve']}:8080/ping") as answer:
                    return answer.status == 200
            return False

        await until(ready, within=120, every=0.5, what="TorchServe is ready")
        yield world


def _host() -> str:
    """An address of this machine that nobody else is likely to use."""
    return "127." + ".".join(str(30 + byte % 220) for byte in os.urandom(3))


def python_of(image: str) -> Path:
    """The folder of programs of a serving image's environment."""
    return checkout() / "trainer_images" / "serving" / image / ".venv" / "bin"


async def published(artifact: Path, models: Path, *, server: str, model: str) -> dict[str, str]:
    """Publish an artifact as version 1; the digest and the record that a sync names."""
    models.mkdir()
    of = ["--source", str(artifact), "--server", server]
    checked = json.loads(await _output("publisher", "trainwright-publisher", "verify", *of))
    words = [*of, "--digest", checked["digest"], "--model", model, "--version", "1", "--models", str(models)]
    made = json.loads(await _output("publisher", "trainwright-publisher", "publish", *words))
    return {"digest": checked["digest"], "record": made["record"]}


async def _output(image: str, *words: str) -> str:
    """What a program of an image's environment prints; the first word is its name, or an option of its Python."""
    program, arguments = ("python", words) if words[0].startswith("-") else (words[0], words[1:])
    process = await asyncio.create_subprocess_exec(
        python_of(image) / program,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TOOLS), "TRAINWRIGHT_TERMINATION_LOG": os.devnull},
    )
    output, said = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with code {process.returncode}: {said.decode(errors='replace')[-2000:]}")
    return output.decode()


@contextlib.asynccontextmanager
async def _running(image: str, program: str, *arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server, ended with the block, with all it started."""
    process = await asyncio.create_subprocess_exec(
        python_of(image) / program,
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(TOOLS), **environment},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

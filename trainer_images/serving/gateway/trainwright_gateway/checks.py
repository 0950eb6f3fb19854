"""A freshly loaded version is warmed up and asked what its trainer asked it: does it run here, and does it answer the same?

A version is checked once for what it is (digest, record) and how it is to be checked, whatever pods run it: a pod's new start
says nothing about the model. It is checked again only after a sync that didn't name it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp

from trainwright_gateway import manifest, tensors
from trainwright_gateway.manifest import BadRecord, Record, Samples
from trainwright_gateway.servers import Server, Unreadable
from trainwright_gateway.sync import Check, Sync, Version
from trainwright_gateway.upstreams import Upstreams, said, url

PAUSE = 0.2

log = logging.getLogger(__name__)


class State(StrEnum):
    """How far a check is."""

    WAITING = "waiting"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


@dataclass
class Result:
    """As /sync answers. `max_difference` is relative to the largest magnitude of an output."""

    warmed: bool = False
    state: State = State.WAITING
    message: str = "waits until the version is available"
    samples: int = 0
    max_difference: float | None = None

    def facts(self) -> dict[str, Any]:
        facts = {"state": self.state, "message": self.message, "samples": self.samples}
        return facts if self.max_difference is None else {**facts, "maxDifference": self.max_difference}


class _NotYet(Exception):
    """A server gave no answer to judge: asked again while there is time."""


class Checker:
    """One task for each version that is to be checked."""

    def __init__(self, server: Server, models: Path, upstreams: Upstreams, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._models = models
        self._upstreams = upstreams
        self._session = session
        self._results: dict[int, tuple[object, Result]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def follow(self, sync: Sync) -> None:
        """Check what isn't, of the versions named."""
        named = {one.version: one for one in sync.versions}
        for version in set(self._results) - set(named):
            self._drop(version)
        for version, one in named.items():
            of = (sync.model, one.digest, one.record, sync.check.smoke, sync.check.tolerance)
            if version in self._results and self._results[version][0] == of:
                continue
            self._drop(version)
            result = Result()
            self._results[version] = (of, result)
            self._tasks[version] = asyncio.create_task(self._run(sync.model, one, sync.check, result))

    def result(self, version: int) -> Result:
        return self._results[version][1] if version in self._results else Result()

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _drop(self, version: int) -> None:
        self._results.pop(version, None)
        if task := self._tasks.pop(version, None):
            task.cancel()

    async def _run(self, model: str, version: Version, check: Check, result: Result) -> None:
        await self._available(version)
        result.state, result.message = State.RUNNING, "the samples are being asked"
        why = "it didn't become available again"
        try:
            async with asyncio.timeout(check.timeout_seconds):
                while True:
                    await self._available(version)
                    try:
                        await self._check(model, version, check, result)
                        break
                    except (_NotYet, OSError) as error:
                        why = str(error)
                        await asyncio.sleep(PAUSE)
        except TimeoutError:
            result.state, result.message = State.FAILED, f"no answer to the samples within {check.timeout_seconds:g} s: {why}"
        except (tensors.Differs, BadRecord) as error:
            result.state, result.message = State.FAILED, str(error)
        except Exception as error:
            log.exception("the check of version %s failed", version.version)
            result.state, result.message = State.FAILED, f"the samples couldn't be compared: {error!r}"
        log.log(
            logging.WARNING if result.state is State.FAILED else logging.INFO,
            "check of version %s: %s, %s", version.version, result.state, result.message,
        )  # fmt: skip

    async def _available(self, version: Version) -> None:
        while self._upstreams.why_not(version) is not None:
            await self._upstreams.change(1.0)

    async def _check(self, model: str, version: Version, check: Check, result: Result) -> None:
        record = await asyncio.to_thread(
            manifest.read, self._models, version.version, digest=version.digest, record=version.record
        )
        if record.samples is None:
            if check.smoke:
                raise BadRecord("the artifact carries no samples (samples.json) to check it by; 'check.smoke' false goes without")
            result.state, result.message = State.PASSED, "not checked: the artifact carries no samples"
            return
        hosts = [one.host for one in self._upstreams.of(version) if one.available]
        for host in hosts:
            await self._warm_up(model, version, host, record, record.samples, check.warmup)
        result.warmed = bool(hosts)
        if not check.smoke:
            result.state, result.message = State.PASSED, "not checked: 'check.smoke' is false"
            return
        samples = record.samples
        largest = max([await self._smoke(model, version, host, record, samples, check.tolerance) for host in hosts], default=None)
        if largest is None:
            raise _NotYet("the version went away")
        result.samples, result.max_difference = samples.rows, largest
        result.state, result.message = State.PASSED, f"{samples.rows} samples, largest difference {largest:.1g}"

    async def _warm_up(self, model: str, version: Version, host: str, record: Record, samples: Samples, count: int) -> None:
        """One row a prediction, as clients mostly ask; what is answered is looked at later."""
        for number in range(count):
            at = number % samples.rows
            row = {name: rows[at : at + 1] for name, rows in samples.inputs.items()}
            await self._ask(model, version, host, self._server.ask(row, record.manifest))

    async def _smoke(self, model: str, version: Version, host: str, record: Record, samples: Samples, tolerance: float) -> float:
        body = await self._ask(model, version, host, self._server.ask(samples.inputs, record.manifest))
        try:
            answered = self._server.outputs(body, record.manifest)
        except Unreadable as error:
            raise tensors.Differs(f"the answer can't be read: {error}") from None
        largest = tensors.compare(samples.outputs, answered, tolerance=tolerance)
        # Our TorchServe handler names the classes itself.
        if record.manifest.classes and isinstance(named := json.loads(body).get("classes"), list):
            wanted = tensors.predictions(answered, record.manifest)
            if [str(one) for one in named] != [str(one) for one in wanted]:
                raise tensors.Differs(f"the answer names the classes {named[:5]}…, by its outputs they are {wanted[:5]}…")
        return largest

    async def _ask(self, model: str, version: Version, host: str, body: bytes) -> bytes:
        """The answer's body. Raises Differs when the server says no, _NotYet when it doesn't say."""
        path = url(host, self._server.port, self._server.path(self._server.prediction(model), version.version))
        try:
            async with self._session.post(path, data=body, headers={"content-type": "application/json"}) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise _NotYet(f"{host}: {said(error)}") from None
        shown = " ".join(content[:300].decode(errors="replace").split())
        if answer.status in {502, 503, 504}:
            raise _NotYet(f"{host} answers {answer.status}: {shown}")
        if answer.status != 200:
            raise tensors.Differs(f"a sample is answered with {answer.status}: {shown}")
        return content

"""A whole local twin to measure on, under a home of its own, and what its workers say of themselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp

from bench.waiting import until
from trainwright.api.names import METRICS_PORT
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import PODS, Object
from trainwright.local.twin import Twin

NAMESPACE = "default"


@contextlib.asynccontextmanager
async def twin(say: Callable[[str], None]) -> AsyncIterator[KubeCluster]:
    """One node of two GPUs, the operator, and nothing else; gone at the end."""
    with _home():
        there = Twin("bench")
        try:
            kubeconfig = await there.up(nodes=1, gpus_per_node=2, progress=say)
            cluster = await KubeCluster.connect(kubeconfig=kubeconfig)
            try:
                yield cluster
            finally:
                await cluster.close()
        finally:
            there.down()


async def no_pods(cluster: KubeCluster) -> None:
    """Wait until the last job's pods are gone: what still ends would be measured with what begins."""

    async def gone() -> bool:
        return not (await cluster.list(PODS, NAMESPACE)).items

    await until(gone, within=60, every=0.2, what="no pod of the last job")


async def progress_of(address: str) -> Object | None:
    """What the worker at this address says of its training; None until it answers."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}:{METRICS_PORT}/progress") as answer:
            said: Object = await answer.json()
            return said
    except aiohttp.ClientError:
        return None


@contextlib.contextmanager
def _home() -> Iterator[None]:
    before = os.environ.get("TRAINWRIGHT_HOME")
    directory = tempfile.mkdtemp(prefix="tw-bench-")
    os.environ["TRAINWRIGHT_HOME"] = directory
    try:
        yield
    finally:
        if before is None:
            del os.environ["TRAINWRIGHT_HOME"]
        else:
            os.environ["TRAINWRIGHT_HOME"] = before
        shutil.rmtree(directory, ignore_errors=True)

"""Break things on a local twin, on purpose: what tests do to a job, and what a person does to see it survive.

Each function does one thing to real processes and returns a sentence that says what it did. Nothing here is known to
the operator or to the trainers.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from trainwright.api.names import INDEX_LABEL, JOB_LABEL, hostname
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import PODS, TRAINING_JOBS, ClusterError, NotFound, Object
from trainwright.local.container import NotYet, claimed_directory
from trainwright.local.process import marked
from trainwright.local.slowdisk import NoRoom, slow_down
from trainwright.local.twin import Twin


class NothingToBreak(RuntimeError):
    """What was to be broken isn't there; the message says what is."""


class Chaos:
    """Faults for one twin that is up."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin

    async def kill_worker(self, job: str, namespace: str, index: int = 0) -> str:
        """SIGKILL to every process of a worker, as the kernel does when memory runs out."""
        processes = await self._worker(job, namespace, index)
        _signal(processes, signal.SIGKILL)
        return f"killed all {len(processes)} processes of {hostname(job, index)}"

    async def hang_worker(self, job: str, namespace: str, index: int = 0, *, seconds: float) -> str:
        """A worker stands still for a while: neither dead nor alive."""
        processes = await self._worker(job, namespace, index)
        async with _standing_still(processes):
            await asyncio.sleep(seconds)
        return f"{hostname(job, index)} stood still for {seconds:g} s"

    async def full_disk(self, job: str, namespace: str, index: int = 0, *, seconds: float) -> str:
        """The worker's processes can't write a file as large as its checkpoint: each write beyond half of that fails.

        A limit of the kernel's on the processes (RLIMIT_FSIZE) stands for the full disk, so nobody else's disk fills up.
        """
        limit = await self._half_of_a_checkpoint(job, namespace)
        processes = await self._worker(job, namespace, index)
        changed = []
        try:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
                    process.rlimit(psutil.RLIMIT_FSIZE, (limit, hard))
                    changed.append((process, soft, hard))
            await asyncio.sleep(seconds)
        finally:
            for process, soft, hard in changed:
                with contextlib.suppress(psutil.Error):
                    process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))
        return f"for {seconds:g} s {hostname(job, index)} could write no file of more than {limit} bytes"

    async def slow_disk(self, job: str, namespace: str, *, seconds: float, say: Callable[[str], None] = lambda _: None) -> str:
        """The disk under the job's workspace is busy for a while, for everybody who uses it."""
        pod = await self._pod(job, namespace, 0)
        claim = next(one["persistentVolumeClaim"]["claimName"] for one in pod["spec"]["volumes"] if one["name"] == "workspace")
        try:
            async with self._cluster() as cluster:
                folder = await claimed_directory(cluster, namespace, claim)
            slowed = await slow_down(folder, seconds=seconds, say=say)
        except (NotYet, NoRoom) as error:
            raise NothingToBreak(str(error)) from None
        except OSError as error:
            raise NothingToBreak(f"{folder} can't be written to: {error.strerror or error}") from None
        return f"for {seconds:g} s the disk under the workspace of {job} was busy: {slowed}"

    async def stop_node(self, job: str, namespace: str, index: int = 0) -> str:
        """The machine under a worker is switched off: the node's agent and all of its pods are gone at once."""
        node = (await self._pod(job, namespace, index))["spec"]["nodeName"]
        agent = self._twin.process(node)
        pods = [one for folder in (self._twin.state / "nodes" / node / "pods").glob("*") for one in marked(folder.name)]
        _signal([*([agent] if agent else []), *pods], signal.SIGKILL)
        return f"node {node} is off, and {len(pods)} processes of its pods with it; trainwright up switches it on again"

    async def drain_node(self, job: str, namespace: str, index: int = 0) -> str:
        """Cordon the node under a worker and evict its pods, as before maintenance."""
        node = (await self._pod(job, namespace, index))["spec"]["nodeName"]
        await self._kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        return f"node {node} is drained; kubectl uncordon {node} lets pods on it again"

    async def kill_operator(self) -> str:
        """SIGKILL to the operator, and a new one, as a Deployment would start it."""
        before = self._twin.process("operator")
        if before is None:
            raise NothingToBreak("the operator is dead already; trainwright up starts it")
        _signal([before], signal.SIGKILL)
        await self._twin.restart_operator()
        return f"killed the operator (pid {before.pid}); a new one works"

    async def drop_api(self, *, seconds: float) -> str:
        """The API server stands still: connections stay open and nobody answers."""
        server = self._twin.process("apiserver")
        if server is None:
            raise NothingToBreak("the API server is dead already; trainwright up starts it")
        async with _standing_still([server]):
            await asyncio.sleep(seconds)
        return f"the API server answered nothing for {seconds:g} s"

    async def _worker(self, job: str, namespace: str, index: int) -> list[psutil.Process]:
        """The living processes of a worker of the job's current attempt."""
        return marked((await self._pod(job, namespace, index))["metadata"]["uid"])

    async def _pod(self, job: str, namespace: str, index: int) -> Object:
        """The pod of a worker that runs."""
        async with self._cluster() as cluster:
            found = (await cluster.list(PODS, namespace, labels={JOB_LABEL: job, INDEX_LABEL: str(index)})).items
        for pod in sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True):
            if marked(pod["metadata"]["uid"]):
                return pod
        raise NothingToBreak(f"no process of worker {index} of job {job} runs in namespace {namespace}")

    async def _half_of_a_checkpoint(self, job: str, namespace: str) -> int:
        async with self._cluster() as cluster:
            try:
                found = await cluster.get(TRAINING_JOBS, job, namespace)
            except NotFound:
                raise NothingToBreak(f"there is no job {job} in namespace {namespace}") from None
        path = found.get("status", {}).get("checkpoint", {}).get("path")
        largest = 0
        # The one that status names may have been pruned since; its successors are as large.
        for file in Path(path).parent.glob("step-*/*") if path else ():
            with contextlib.suppress(FileNotFoundError):
                largest = max(largest, file.stat().st_size)
        if not largest:
            raise NothingToBreak(f"job {job} has no checkpoint yet: how much room to leave can't be known")
        return largest // 2

    @contextlib.asynccontextmanager
    async def _cluster(self) -> AsyncIterator[KubeCluster]:
        if self._twin.process("apiserver") is None:
            raise NothingToBreak("the local twin is not up; trainwright up starts it")
        cluster = await KubeCluster.connect(kubeconfig=self._twin.state / "kubeconfig")
        try:
            yield cluster
        except ClusterError as error:
            raise NothingToBreak(str(error)) from None
        finally:
            await cluster.close()

    async def _kubectl(self, *words: str) -> None:
        command = [self._twin.kubectl, "--kubeconfig", str(self._twin.state / "kubeconfig"), *words]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        if process.returncode:
            raise NothingToBreak(said.decode(errors="replace").strip().splitlines()[-1])


@contextlib.asynccontextmanager
async def _standing_still(processes: Iterable[psutil.Process]) -> AsyncIterator[None]:
    """SIGSTOP, and SIGCONT whatever happens meanwhile."""
    _signal(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(processes, signal.SIGCONT)


def _signal(processes: Iterable[Any], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)

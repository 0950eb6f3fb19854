"""`trainwright run`: the operator, the in-memory cluster and the process node in one process. No API server, no ports but the
workers' own. What it keeps between two runs is the job's directory: workspace, checkpoints, results.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from trainwright.api.job import parse
from trainwright.api.names import INDEX_LABEL, JOB_LABEL, remote_folder
from trainwright.api.spec import Placement
from trainwright.cluster.admission import ADMISSION
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import CLAIMS, CONFIG_MAPS, PODS, SECRETS, TRAINING_JOBS, Object
from trainwright.controller.operator import Operator
from trainwright.local.addresses import subnet
from trainwright.local.binder import Binder
from trainwright.local.cgroups import groups_if_any
from trainwright.local.gpus import Gpus, real_gpus
from trainwright.local.node import ProcessNode
from trainwright.local.storage import Provisioner

RUNNABLE = {resource.kind: resource for resource in (TRAINING_JOBS, CONFIG_MAPS, SECRETS, CLAIMS)}
PROGRESS_SECONDS = 0.5
BEYOND_GRACE_SECONDS = 5.0
NAMESPACE = "default"


class AlreadyRunning(RuntimeError):
    """The job runs in this directory already: two of them would write to one workspace."""


class LocalRun:
    """One job under `directory`. Use as a context: inside it the job runs; `stop` lets it save and end."""

    def __init__(self, directory: Path, job: Object, others: list[Object], progress: Callable[[str], None]) -> None:
        self.name: str = job["metadata"]["name"]
        self.directory = directory.resolve() / self.name
        self.cluster = MemoryCluster(admission=ADMISSION)
        self._objects = [{**obj, "metadata": {**obj["metadata"], "namespace": NAMESPACE}} for obj in (*others, job)]
        spec = parse(self._objects[-1]).spec
        self.node = ProcessNode(
            self.cluster,
            name="local",
            state=self.directory / ".node",
            prefix=subnet(str(self.directory)),
            groups=groups_if_any(),
            gpus=Gpus(real=real_gpus(), pretended=spec.resources.gpus * spec.workers),
            # The point is to run the job here, whatever a cluster's node would have to offer it.
            overcommit=True,
            labels=_wanted_labels(spec.placement),
            progress=progress,
        )
        self.cluster.serve_logs(self.node.read_log)
        self._operator = Operator(self.cluster, watch_jobs=True, progress_interval=PROGRESS_SECONDS, serving=False)
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything and the job; at the end of the block whatever still runs is stopped."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with _only_one(self.directory):
            async with self._running():
                yield

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        parts = [
            self.node.run(),
            Binder(self.cluster).run(),
            Provisioner(self.cluster, self.volume, keep=True).run(),
            self._operator.run(),
        ]
        self._tasks = [asyncio.create_task(part) for part in parts]
        try:
            for obj in self._objects:
                await self.cluster.create(RUNNABLE[obj["kind"]], obj)
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def volume(self, claim: Object) -> Path:
        """Where a claim's data lies: the same place at every run."""
        name: str = claim["metadata"]["name"]
        return Path(self.directory / name.removeprefix(f"{self.name}-"))

    @property
    def workspace(self) -> str:
        """Where the job's results are: a directory, or a URI."""
        workspace = parse(self._objects[-1]).spec.workspace
        if workspace.uri:
            return remote_folder(workspace.uri, NAMESPACE, self.name)
        claim = workspace.claim
        own = self.directory / claim.removeprefix(f"{self.name}-") / self.name if claim else self.directory / "workspace"
        return str(own)

    async def stop(self) -> None:
        """Let the workers save a checkpoint and end, as a cluster does when pods are deleted; without starting them anew."""
        operator = self._tasks[-1]
        operator.cancel()
        await asyncio.gather(operator, return_exceptions=True)
        pods = await self._pods()
        for pod in pods:
            await self.cluster.delete(PODS, pod["metadata"]["name"], NAMESPACE)
        grace = max((pod["spec"]["terminationGracePeriodSeconds"] for pod in pods), default=0)
        deadline = asyncio.get_running_loop().time() + grace + BEYOND_GRACE_SECONDS
        while await self._pods() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - the cluster has no such event
            await asyncio.sleep(0.05)

    def leader_logs(self) -> list[tuple[str, Path]]:
        """Name and log of every pod of worker 0 that is there."""
        return self.node.logs_of({JOB_LABEL: self.name, INDEX_LABEL: "0"})

    async def _pods(self) -> list[Object]:
        return (await self.cluster.list(PODS, NAMESPACE, labels={JOB_LABEL: self.name})).items


def _wanted_labels(placement: Placement) -> dict[str, str]:
    """What a node needs for the job to come: this one has it, whatever it is."""
    return {**({placement.topology_key: "local"} if placement.topology_key else {}), **(placement.node_selector or {})}


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold a job's directory. Raises `AlreadyRunning` when another process does; the lock goes with its process."""
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"another `trainwright run` of this job works in {directory}; stop it or choose another --dir"
            ) from None
        yield

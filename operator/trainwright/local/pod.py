"""One pod's life on the process node: address, volumes, environment, process, end; each step told as a kubelet tells it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainwright.api.model import amount
from trainwright.cluster.port import PODS, Cluster, ClusterError, Conflict, NotFound, Object
from trainwright.local import environments
from trainwright.local.addresses import Addresses, address_of, peers_in, with_addresses
from trainwright.local.cgroups import Groups
from trainwright.local.container import RETRY_SECONDS, NotYet, environment, mount, termination_message
from trainwright.local.gpus import Gpus
from trainwright.local.podstatus import HOST, PodStatus, now, over
from trainwright.local.probes import Place, Probes
from trainwright.local.process import ContainerProcess, Ended, end_pod, marked

log = logging.getLogger(__name__)

MAX_MESSAGE = 4096
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048
START_ERROR = 128
ENVIRONMENT_RETRY_SECONDS = 30.0
# How a kubelet reports a container that it can't find any more.
LOST_EXIT_CODE, LOST_REASON = 137, "ContainerStatusUnknown"
MAX_RESTART_DELAY = 30.0


@dataclass(frozen=True)
class Host:
    """What all pods of a node share.

    `groups`: where containers get cgroups, if anywhere. `pods` gives every pod of the cluster, for the addresses of peers.
    """

    cluster: Cluster
    state: Path
    addresses: Addresses
    gpus: Gpus
    groups: Groups | None
    pods: Callable[[], Iterable[Object]]
    progress: Callable[[str], None]


class PodRunner:
    """Runs one pod until it is over or deleted. `run` is a task; `changed` hands it newer versions of the pod."""

    def __init__(self, host: Host, pod: Object) -> None:
        self._host = host
        self._pod = pod
        self._uid: str = pod["metadata"]["uid"]
        self._containers: list[Object] = [*pod["spec"].get("initContainers", []), pod["spec"]["containers"][0]]
        self._main: str = self._containers[-1]["name"]
        self.name: str = pod["metadata"]["name"]
        self.labels: dict[str, str] = pod["metadata"].get("labels", {})
        self._environment: dict[str, str] = {}
        self._deleted = asyncio.Event()
        self._wake = asyncio.Event()
        self._process: ContainerProcess | None = None
        self.folder: Path = host.state / "pods" / self._uid
        self._left_behind = {
            container["name"]: process
            for container in self._containers
            if (process := ContainerProcess.left_behind(self._folder_of(container), self._uid)) is not None
        }
        if self._left_behind:
            host.addresses.keep(self._uid, pod.get("status", {}).get("podIP", ""))
            host.gpus.keep(self._uid, _content(self._devices).decode())
        address = host.addresses.take(self._uid)
        self._pod = {**pod, "status": {**pod.get("status", {}), "podIP": address, "hostIP": HOST}}
        self._status = PodStatus(host.cluster, pod, address)
        before = pod.get("status", {})
        told = [*before.get("initContainerStatuses", []), *before.get("containerStatuses", [])]
        self._ran_since = {one["name"]: one["state"]["running"]["startedAt"] for one in told if "running" in one.get("state", {})}
        self._status.restarts = next((one["restartCount"] for one in told if one["name"] == self._main), 0)

    @property
    def log(self) -> Path:
        """The log of the pod's container; before that has begun, of the step that is at work."""
        return self.log_of(self._main)

    def log_of(self, container: str) -> Path:
        return self.folder / ("log" if container == self._main else f"{container}.log")

    @property
    def _devices(self) -> Path:
        """The GPUs that the pod was given, for an agent after this one."""
        return self.folder / "gpus"

    def _folder_of(self, container: Object) -> Path:
        return self.folder / "containers" / str(container["name"])

    def changed(self, pod: Object) -> None:
        """A newer version of the pod, or news of another that this one may wait for."""
        if pod["metadata"]["uid"] == self._uid:
            self._pod = {**pod, "status": {**pod.get("status", {}), "podIP": self._pod["status"]["podIP"], "hostIP": HOST}}
            self._status.keep(pod)
            if "deletionTimestamp" in pod["metadata"]:
                self._deleted.set()
        self._wake.set()

    def gone(self) -> None:
        """The pod no longer exists: nobody is left to wait for."""
        self._deleted.set()
        if self._process:
            self._process.kill()

    async def run(self) -> None:
        """The pod's whole life. What it held is released at its end, however that comes."""
        await self._clear_earlier_life()
        self.folder.mkdir(parents=True, exist_ok=True)
        for container in self._containers:
            self.log_of(container["name"]).touch()
        # The log of a pod that is over stays readable until the pod is deleted, whichever agent ran it.
        over_already = self._pod["status"].get("phase") in ("Succeeded", "Failed")
        life = asyncio.create_task(asyncio.sleep(0) if over_already else self._live())
        deletion = asyncio.create_task(self._deleted.wait())
        try:
            await asyncio.wait([life, deletion], return_when=asyncio.FIRST_COMPLETED)
            if deletion.done() and not life.done():
                await self._end(life)
            if life.done() and not life.cancelled() and (error := life.exception()) is not None:
                log.error("%s: the process node failed", self.name, exc_info=error)
                failed = over(START_ERROR, "StartError", f"the process node failed: {error!r}")
                await self._status.report("Failed", self._main, failed)
            self._release()
            await deletion
            await self._confirm()
        finally:
            deletion.cancel()
            life.cancel()
            if self._process:
                await asyncio.to_thread(end_pod, self.folder, self._process.pid)
            self._release()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _clear_earlier_life(self) -> None:
        """End what an agent before this one left without a trace of how it ends: it must not run twice."""
        if self._left_behind or not self.folder.exists():
            return
        if await asyncio.to_thread(marked, self._uid):
            self._ran_since = self._ran_since or {self._main: now()}
        await asyncio.to_thread(end_pod, self.folder)

    async def _live(self) -> None:
        """The steps before the container, one after the other, then the container, again and again where it may restart."""
        if not self._left_behind and not self._ran_since:
            await self._status.report("Pending", self._containers[0]["name"], {"waiting": {"reason": "ContainerCreating"}})
        *initial, main = self._containers
        if self._main not in self._left_behind and self._main not in self._ran_since:
            for container in initial:
                ended, state = await self._run_container(container, "Pending")
                if ended.code:
                    await self._status.report("Failed", container["name"], state)
                    return
                await self._status.report("Pending", container["name"], state)
        while True:
            ended, state = await self._run_container(main, "Running")
            if not await self._goes_on_after(ended.code, state):
                return

    async def _run_container(self, container: Object, phase: str) -> tuple[Ended, dict[str, Any]]:
        """Run one container to its end, or follow one that an earlier agent started; how it ended, and its last state."""
        name = container["name"]
        self._process = self._left_behind.pop(name, None)
        lost_since = self._ran_since.pop(name, None)
        if self._process is None and lost_since is not None:
            state = over(LOST_EXIT_CODE, LOST_REASON, "the node's agent ended while the container ran", since=lost_since)
            return Ended(LOST_EXIT_CODE), state
        if self._process is None:
            refused = await self._start(container)
            if refused is not None:
                self._note(name, refused)
                ended = Ended(START_ERROR, error=refused)
                return ended, self._terminated(container, ended, now())
        process = self._process
        assert process is not None  # noqa: S101 - started just now
        running = {"running": {"startedAt": process.started}}
        is_main = phase == "Running"
        ready = is_main and not Probes.asked(container)
        reported = asyncio.create_task(self._status.report(phase, name, running, ready=ready))
        probing = asyncio.create_task(self._probe(container, process, running, after=reported)) if is_main else None
        try:
            ended = await process.wait()
        finally:
            self._process = None
            if probing:
                probing.cancel()
                await asyncio.wait([probing])
            await reported
        if ended.error:
            self._note(name, ended.error)
        return ended, self._terminated(container, ended, process.started)

    async def _probe(
        self, container: Object, process: ContainerProcess, running: dict[str, Any], *, after: asyncio.Task[None]
    ) -> None:
        """Probe the container as it asks for, once `after` has said that it runs; what doesn't live up to it is ended."""

        async def on_ready(ready: bool) -> None:
            await self._status.report("Running", container["name"], running, ready=ready)

        def on_dead(why: str) -> None:
            log.warning("%s: %s", self.name, why)
            self._note(container["name"], f"trainwright: {why}; the container is ended")
            ending.append(asyncio.create_task(self._terminate(process)))

        ending: list[asyncio.Task[None]] = []
        await asyncio.wait([after])
        place = Place(self._pod["status"]["podIP"], self._environment, str(self._scratch()))
        try:
            await Probes(container, place, on_ready=on_ready, on_dead=on_dead).run()
            await asyncio.gather(*ending)
        finally:
            for task in ending:
                task.cancel()

    async def _terminate(self, process: ContainerProcess) -> None:
        process.terminate()
        await asyncio.sleep(self._pod["spec"].get("terminationGracePeriodSeconds", 30))
        process.kill()

    async def _start(self, container: Object) -> str | None:
        """Start the container as soon as everything that it needs is there; why it can't be, when that will not change."""
        name = container["name"]
        while True:
            try:
                command, env, cwd = await self._prepare(container)
                if not command:
                    return "the container names no command, and images have none of their own on the process node"
                cwd.mkdir(parents=True, exist_ok=True)
                self._process = await ContainerProcess.start(
                    command,
                    env=env,
                    cwd=cwd,
                    log=self.log_of(name),
                    mark=self._uid,
                    folder=self._folder_of(container),
                    started=now(),
                    memory=_memory(container),
                    groups=self._host.groups,
                )
                return None
            except NotYet as missing:
                await self._waits(name, missing.reason, str(missing))
                await self._pause(missing.retry_seconds)
            except ClusterError as error:
                log.warning("%s: %s", self.name, error)
                await self._pause()
            except OSError as error:
                await self._waits(name, "ContainerCreating", str(error))
                await self._pause()

    async def _waits(self, container: str, reason: str, message: str) -> None:
        await self._status.report("Pending", container, {"waiting": {"reason": reason, "message": message}})

    async def _goes_on_after(self, code: int, state: dict[str, Any]) -> bool:
        """Report the end of the container; whether it is started again, with the delay behind us then."""
        policy = self._pod["spec"].get("restartPolicy", "Always")
        if self._deleted.is_set() or not (policy == "Always" or (policy == "OnFailure" and code != 0)):
            await self._status.report("Succeeded" if code == 0 else "Failed", self._main, state)
            return False
        self._status.restarts += 1
        self._status.ended(self._main, state)
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": f"exit code {code}"}}
        await self._status.report("Running", self._main, waiting)
        await asyncio.sleep(min(MAX_RESTART_DELAY, 2.0 ** (self._status.restarts - 1)))
        return True

    async def _prepare(self, container: Object) -> tuple[list[str], dict[str, str], Path]:
        """Command, environment, working directory. Raises `NotYet`."""
        cluster, pod = self._host.cluster, self._pod
        if len(pod["spec"]["containers"]) > 1:
            raise NotYet("pods with more than one container don't run on the process node (docs/local-twin.md)")
        mounts = await mount(cluster, pod, container, self.folder)
        own = await environment(cluster, pod, container)
        peers = {host: address_of(host, pod, [pod, *self._host.pods()]) for host in peers_in(own.values(), pod)}
        if missing := sorted(host for host, address in peers.items() if address is None):
            raise NotYet(f"waiting for the address of {', '.join(missing)}")
        known = {host: address for host, address in peers.items() if address is not None}
        values = {name: mounts.rewrite(with_addresses(value, pod, known)) for name, value in own.items()}
        path = os.environ.get("PATH", os.defpath)
        folder = environments.image_folder(container.get("image", ""))
        if folder is not None:
            if not environments.is_ready(folder):
                await self._make_environment(container["name"], folder)
            path = f"{environments.executables(folder)}{os.pathsep}{path}"
        limit = container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", "0")
        devices = self._host.gpus.take(self._uid, int(limit)) if container["name"] == self._main else ""
        self._devices.write_text(devices)
        base = {
            "PATH": path,
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self._scratch()),
            "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
            "PYTHONUNBUFFERED": "1",
            # Pods have addresses of the loopback device, and so must everything that they tell each other.
            "GLOO_SOCKET_IFNAME": "lo",
            "TP_SOCKET_IFNAME": "lo",
            "NCCL_SOCKET_IFNAME": "lo",
            "CUDA_VISIBLE_DEVICES": devices,
        }
        words = [*container.get("command", []), *container.get("args", [])]
        cwd = Path(mounts.rewrite(container.get("workingDir", "") or str(self._scratch())))
        self._environment = base | values
        return [mounts.rewrite(word) for word in words], self._environment, cwd

    def _scratch(self) -> Path:
        scratch: Path = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        return scratch

    async def _make_environment(self, container: str, folder: Path) -> None:
        """Make the image's environment, telling the pod's status about it."""
        await self._waits(container, "ContainerCreating", f"preparing environment {folder.name} (once; minutes)")
        try:
            await environments.ensure(folder, self._host.progress)
        except environments.EnvironmentFailed as error:
            raise NotYet(str(error), retry_seconds=ENVIRONMENT_RETRY_SECONDS) from None

    async def _end(self, life: asyncio.Task[None]) -> None:
        """Deletion: TERM, the grace that the deletion gives, KILL."""
        if self._process is None:
            life.cancel()
            await asyncio.wait([life])
            return
        grace = self._pod["metadata"].get("deletionGracePeriodSeconds", 30)
        if grace > 0:
            self._process.terminate()
            await asyncio.wait([life], timeout=grace)
        if self._process is not None:
            self._process.kill()
        await asyncio.wait([life])

    async def _confirm(self) -> None:
        """Tell the API server that nothing of the pod is left."""
        metadata = self._pod["metadata"]
        for delay in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0):
            try:
                await self._host.cluster.delete(PODS, metadata["name"], metadata["namespace"], uid=self._uid, grace_seconds=0)
                return
            except (NotFound, Conflict):
                return
            except ClusterError as error:
                log.warning("%s: deletion not confirmed: %s", metadata["name"], error)
                await asyncio.sleep(delay)

    def _terminated(self, container: Object, ended: Ended, started: str) -> dict[str, Any]:
        reasons = {0: "Completed", START_ERROR: "StartError"}
        reason = "OOMKilled" if ended.out_of_memory else reasons.get(ended.code, "Error")
        return over(ended.code, reason, self._last_words(container, ended.code), since=started)

    def _last_words(self, container: Object, code: int) -> str:
        """The termination message; the end of the log instead, where the container asks for that and failed in silence."""
        said = _content(termination_message(self.folder))[:MAX_MESSAGE].decode(errors="replace")
        if said or code == 0 or container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return said
        written = _content(self.log_of(container["name"]))
        lines = written[-FALLBACK_BYTES * 4 :].decode(errors="replace").splitlines()[-FALLBACK_LINES:]
        return "\n".join(lines)[-FALLBACK_BYTES:]

    def _note(self, container: str, line: str) -> None:
        with self.log_of(container).open("a") as output:
            output.write(f"{line}\n")

    async def _pause(self, seconds: float = RETRY_SECONDS) -> None:
        """Wait a little while; where that is short anyhow, news end it."""
        if seconds > RETRY_SECONDS:
            await asyncio.sleep(seconds)
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _release(self) -> None:
        self._host.addresses.release(self._uid)
        self._host.gpus.release(self._uid)


def _memory(container: Object) -> float | None:
    """The container's limit in bytes; None where it has none."""
    limit = container.get("resources", {}).get("limits", {}).get("memory")
    return amount(str(limit)) if limit else None


def _content(path: Path) -> bytes:
    """A file that belongs to the pod: its processes may have removed it, or made something else of it."""
    try:
        return path.read_bytes()
    except OSError:
        return b""

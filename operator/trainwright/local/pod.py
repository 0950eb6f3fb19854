"""One pod's life on the process node: address, volumes, environment, process, end; each step told as a kubelet tells it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainwright.cluster.port import PODS, Cluster, ClusterError, Conflict, NotFound, Object
from trainwright.local import environments
from trainwright.local.addresses import Addresses, address_of, peers_in, with_addresses
from trainwright.local.container import RETRY_SECONDS, Mounts, NotYet, environment, mount
from trainwright.local.gpus import Gpus
from trainwright.local.process import ContainerProcess, kill_marked, marked
from trainwright.observe.times import rfc3339

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
MAX_MESSAGE = 4096
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048
START_ERROR = 128
ENVIRONMENT_RETRY_SECONDS = 30.0
# How a kubelet reports a container that it can't find any more.
LOST_EXIT_CODE, LOST_REASON = 137, "ContainerStatusUnknown"
MAX_RESTART_DELAY = 30.0


@dataclass(frozen=True)
class Host:
    """What all pods of a node share. `pods` gives every pod of the cluster, for the addresses of peers."""

    cluster: Cluster
    state: Path
    addresses: Addresses
    gpus: Gpus
    pods: Callable[[], Iterable[Object]]
    progress: Callable[[str], None]


class PodRunner:
    """Runs one pod until it is over or deleted. `run` is a task; `changed` hands it newer versions of the pod."""

    def __init__(self, host: Host, pod: Object) -> None:
        self._host = host
        self._pod = pod
        self._uid: str = pod["metadata"]["uid"]
        self._container: Object = pod["spec"]["containers"][0]
        self.name: str = pod["metadata"]["name"]
        self.labels: dict[str, str] = pod["metadata"].get("labels", {})
        self._deleted = asyncio.Event()
        self._wake = asyncio.Event()
        self._process: ContainerProcess | None = None
        before: Object = next(iter(pod.get("status", {}).get("containerStatuses", [])), {})
        self._restarts: int = before.get("restartCount", 0)
        self._ran_since: str | None = before.get("state", {}).get("running", {}).get("startedAt")
        self._started: str = pod.get("status", {}).get("startTime") or _now()
        self.folder = host.state / "pods" / self._uid
        self.log = self.folder / "log"

    def changed(self, pod: Object) -> None:
        """A newer version of the pod, or news of another that this one may wait for."""
        if pod["metadata"]["uid"] == self._uid:
            self._pod = pod
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
        self.log.touch()
        life = asyncio.create_task(self._live())
        deletion = asyncio.create_task(self._deleted.wait())
        try:
            await asyncio.wait([life, deletion], return_when=asyncio.FIRST_COMPLETED)
            if deletion.done() and not life.done():
                await self._end(life)
            if life.done() and not life.cancelled() and (error := life.exception()) is not None:
                log.error("%s: the process node failed", self.name, exc_info=error)
                await self._report("Failed", _over(START_ERROR, "StartError", f"the process node failed: {error!r}"))
            self._release()
            await deletion
            await self._confirm()
        finally:
            deletion.cancel()
            life.cancel()
            if self._process:
                await asyncio.to_thread(kill_marked, self._uid, self._process.pid)
            self._release()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _clear_earlier_life(self) -> None:
        """End what an agent before this one left of the pod: nobody can tell its exit code, and it must not run twice."""
        if self._ran_since is None and not self.folder.exists():
            return
        if await asyncio.to_thread(marked, self._uid):
            self._ran_since = self._ran_since or self._started
            await asyncio.to_thread(kill_marked, self._uid)

    async def _live(self) -> None:
        address = self._host.addresses.take(self._uid)
        self._pod = {**self._pod, "status": {**self._pod.get("status", {}), "podIP": address, "hostIP": HOST}}
        if self._ran_since is not None:
            state = _over(LOST_EXIT_CODE, LOST_REASON, "the node's agent ended while the container ran", since=self._ran_since)
            if not await self._goes_on_after(LOST_EXIT_CODE, state):
                return
        else:
            await self._report("Pending", {"waiting": {"reason": "ContainerCreating"}})
        while True:
            try:
                command, env, cwd, mounts = await self._prepare()
            except NotYet as missing:
                await self._report("Pending", {"waiting": {"reason": missing.reason, "message": str(missing)}})
                await self._pause(missing.retry_seconds)
                continue
            except ClusterError as error:
                log.warning("%s: %s", self._pod["metadata"]["name"], error)
                await self._pause()
                continue
            except OSError as error:
                await self._report("Pending", {"waiting": {"reason": "ContainerCreating", "message": str(error)}})
                await self._pause()
                continue
            started = _now()
            code = await self._execute(command, env, cwd, started)
            if not await self._goes_on_after(code, self._terminated(code, started, mounts)):
                return

    async def _goes_on_after(self, code: int, state: dict[str, Any]) -> bool:
        """Report the end of the container; whether it is started again, with the delay behind us then."""
        policy = self._pod["spec"].get("restartPolicy", "Always")
        if self._deleted.is_set() or not (policy == "Always" or (policy == "OnFailure" and code != 0)):
            await self._report("Succeeded" if code == 0 else "Failed", state)
            return False
        self._restarts += 1
        await self._report("Running", {"waiting": {"reason": "CrashLoopBackOff", "message": f"exit code {code}"}})
        await asyncio.sleep(min(MAX_RESTART_DELAY, 2.0 ** (self._restarts - 1)))
        return True

    async def _prepare(self) -> tuple[list[str], dict[str, str], Path, Mounts]:
        """Command, environment, working directory. Raises `NotYet`."""
        cluster, pod, container = self._host.cluster, self._pod, self._container
        if len(pod["spec"]["containers"]) > 1 or pod["spec"].get("initContainers"):
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
                await self._make_environment(folder)
            path = f"{environments.executables(folder)}{os.pathsep}{path}"
        limit = container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", "0")
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
            "CUDA_VISIBLE_DEVICES": self._host.gpus.take(self._uid, int(limit)),
        }
        words = [*container.get("command", []), *container.get("args", [])]
        cwd = Path(mounts.rewrite(container.get("workingDir", "") or str(self._scratch())))
        return [mounts.rewrite(word) for word in words], base | values, cwd, mounts

    def _scratch(self) -> Path:
        scratch: Path = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        return scratch

    async def _make_environment(self, folder: Path) -> None:
        """Make the image's environment, telling the pod's status about it."""
        said = f"preparing environment {folder.name} (once; minutes)"
        await self._report("Pending", {"waiting": {"reason": "ContainerCreating", "message": said}})
        try:
            await environments.ensure(folder, self._host.progress)
        except environments.EnvironmentFailed as error:
            raise NotYet(str(error), retry_seconds=ENVIRONMENT_RETRY_SECONDS) from None

    async def _execute(self, command: list[str], env: dict[str, str], cwd: Path, started: str) -> int:
        """Run the process to its end; the exit code. What can't be started ends as a container runtime says it."""
        if not command:
            self._note("the container names no command, and images have none of their own on the process node")
            return START_ERROR
        try:
            cwd.mkdir(parents=True, exist_ok=True)
            self._process = await ContainerProcess.start(command, env=env, cwd=cwd, log=self.log, mark=self._uid)
        except OSError as error:
            self._note(f"{command[0]}: {error.strerror or error}")
            return START_ERROR
        reported = asyncio.create_task(self._report("Running", {"running": {"startedAt": started}}, ready=True))
        try:
            return await self._process.wait()
        finally:
            self._process = None
            await reported

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

    def _terminated(self, code: int, started: str, mounts: Mounts) -> dict[str, Any]:
        reason = "Completed" if code == 0 else "StartError" if code == START_ERROR else "Error"
        return _over(code, reason, self._last_words(code, mounts), since=started)

    def _last_words(self, code: int, mounts: Mounts) -> str:
        """The termination message; the end of the log instead, where the container asks for that and failed in silence."""
        path = mounts.paths[self._container.get("terminationMessagePath", "/dev/termination-log")]
        said = _content(path)[:MAX_MESSAGE].decode(errors="replace")
        if said or code == 0 or self._container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return said
        lines = _content(self.log)[-FALLBACK_BYTES * 4 :].decode(errors="replace").splitlines()[-FALLBACK_LINES:]
        return "\n".join(lines)[-FALLBACK_BYTES:]

    def _note(self, line: str) -> None:
        with self.log.open("a") as output:
            output.write(f"{line}\n")

    async def _report(self, phase: str, state: dict[str, Any], *, ready: bool = False) -> None:
        """Write the pod's status; the API server may be away for a while, but not for ever."""
        metadata = self._pod["metadata"]
        own = self._pod.get("status", {})
        status = {
            "phase": phase,
            "hostIP": HOST,
            "hostIPs": [{"ip": HOST}],
            "podIP": own.get("podIP"),
            "podIPs": [{"ip": own.get("podIP")}],
            "startTime": self._started,
            "conditions": self._conditions(phase, ready=ready),
            "containerStatuses": [
                {
                    "name": self._container["name"],
                    "image": self._container.get("image", ""),
                    "imageID": "",
                    "ready": ready,
                    "started": ready,
                    "restartCount": self._restarts,
                    "state": state,
                }
            ],
        }
        patch = {"metadata": {"uid": self._uid}, "status": status}
        while True:
            try:
                await self._host.cluster.patch(PODS, metadata["name"], metadata["namespace"], patch, subresource="status")
                return
            except (NotFound, Conflict):
                return
            except ClusterError as error:
                log.warning("%s: status not written: %s", metadata["name"], error)
                await asyncio.sleep(RETRY_SECONDS)

    def _conditions(self, phase: str, *, ready: bool) -> list[dict[str, Any]]:
        before = {one["type"]: one for one in self._pod.get("status", {}).get("conditions", [])}
        completed = {"reason": "PodCompleted"} if phase == "Succeeded" else {}
        wanted = {
            "PodScheduled": ("True", {}),
            "Initialized": ("True", {}),
            "ContainersReady": ("True" if ready else "False", completed),
            "Ready": ("True" if ready else "False", completed),
        }
        conditions = []
        for kind, (status, extra) in wanted.items():
            old = before.get(kind, {})
            since = old.get("lastTransitionTime") if old.get("status") == status else None
            conditions.append({"type": kind, "status": status, "lastTransitionTime": since or _now(), **extra})
        others = [one for kind, one in before.items() if kind not in wanted]
        return [*conditions, *others]

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


def _over(code: int, reason: str, message: str, *, since: str | None = None) -> dict[str, Any]:
    state = {"exitCode": code, "reason": reason, "startedAt": since or _now(), "finishedAt": _now()}
    return {"terminated": state | ({"message": message} if message else {})}


def _content(path: Path) -> bytes:
    """A file that belongs to the pod: its processes may have removed it, or made something else of it."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _now() -> str:
    return rfc3339(time.time())

"""Workers as real processes, each with the environment that the contract gives it, on addresses out of 127.0.0.0/8."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

LAUNCHER = Path(sys.executable).with_name("trainwright-launch")
_gangs = itertools.count(1)


def _horovod(_index: int, hosts: list[str], port: int) -> dict[str, str]:
    return {
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": hosts[0],
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
    }


def _jax(index: int, hosts: list[str], port: int) -> dict[str, str]:
    return {
        "JAX_COORDINATOR_ADDRESS": f"{hosts[0]}:{port}",
        "JAX_NUM_PROCESSES": str(len(hosts)),
        "JAX_PROCESS_ID": str(index),
        "OMPI_MCA_orte_hnp_uri": "0.0;tcp://127.0.0.1:0",
        "OMPI_COMM_WORLD_SIZE": str(len(hosts)),
        "OMPI_COMM_WORLD_RANK": str(index),
        "OMPI_COMM_WORLD_LOCAL_RANK": "0",
        "JAX_LOCAL_DEVICE_IDS": "0",
    }


def _tensorflow(index: int, hosts: list[str], port: int) -> dict[str, str]:
    if len(hosts) == 1:
        return {}
    workers = [f"{host}:{port + number}" for number, host in enumerate(hosts)]
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})}


CONTRACTS = {"horovod": _horovod, "jax": _jax, "tensorflow": _tensorflow}
"""What the operator sets for a framework beyond what is the same for all (docs/contract.md)."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true value of `condition`, asked again and again until the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def builtin(name: str) -> str:
    """The value of TRAINWRIGHT_DATA for one builtin data set."""
    return json.dumps({"train": {"builtin": name}})


class Worker:
    """One launcher process."""

    def __init__(self, argv: list[str], environ: dict[str, str], folder: Path, cwd: Path) -> None:
        self.address = f"http://{environ['TRAINWRIGHT_POD_IP']}:{environ['TRAINWRIGHT_METRICS_PORT']}"
        self._output = folder / f"output-{uuid.uuid4().hex[:6]}"
        self._termination = Path(environ["TRAINWRIGHT_TERMINATION_LOG"])
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                argv,
                env=environ,
                cwd=cwd,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def message(self) -> dict[str, Any]:
        """The termination message."""
        content = self._termination.read_bytes()
        assert len(content) <= 4000
        return json.loads(content)

    def has_message(self) -> bool:
        return self._termination.exists()

    def wait(self, seconds: float = 90.0) -> int:
        """Exit code as a kubelet reports it."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker is still there after {seconds:g} s; it wrote:\n{self.output}") from None
        return 128 - code if code < 0 else code

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=5) as response:
            return response.read().decode()

    def progress(self) -> dict[str, Any]:
        """What /progress says; empty while nobody answers."""
        try:
            return json.loads(self.get("/progress"))
        except (OSError, http.client.HTTPException):
            return {}

    def has_reached(self, step: int) -> bool:
        """Whether /progress says this step or a later one; a worker that has ended is an error."""
        assert self.process.poll() is None, f"ended before step {step}:\n{self.output}"
        return self.progress().get("step", 0) >= step

    def ranks(self) -> list[int]:
        """Process ids of what the launcher started directly."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def leftovers(self) -> list[int]:
        """Processes of this worker's session that are still alive."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
        return found


class Gang:
    """Starts the workers of a job; `end` sees to it that none of their processes is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self._all: list[Worker] = []

    def start(
        self,
        *arguments: str,
        workers: int = 1,
        nproc: int = 1,
        attempt: int = 1,
        cwd: Path | None = None,
        config: str | None = None,
        framework: str = "torch",
        launcher: bool = True,
        options: tuple[str, ...] = (),
        only: tuple[int, ...] | None = None,
        **environ: str | None,
    ) -> list[Worker]:
        """Start the workers with `trainwright-launch ARGUMENTS`; a variable given as None is left out of the environment."""
        number = next(_gangs)
        block = f"127.{60 + os.getpid() % 150}.{number % 250}"
        port = free_port()
        hosts = [f"{block}.{index + 1}" for index in range(workers)]
        own = [CONTRACTS[framework](index, hosts, port) if framework in CONTRACTS else {} for index in range(workers)]
        if framework == "horovod":
            options = ("--beside", "trainwright_runtime.horovod.rendezvous", *options)
        self.workspace.mkdir(exist_ok=True)
        started = []
        for index in range(workers) if only is None else only:
            base = {name: value for name, value in os.environ.items() if not name.startswith("TRAINWRIGHT_")}
            contract: dict[str, str | None] = {
                **base,
                "TRAINWRIGHT_JOB": "digits",
                "TRAINWRIGHT_NAMESPACE": "default",
                "TRAINWRIGHT_UID": "uid-1",
                "TRAINWRIGHT_ATTEMPT": str(attempt),
                "TRAINWRIGHT_WORKERS": str(workers),
                "TRAINWRIGHT_WORKER_INDEX": str(index),
                "TRAINWRIGHT_NPROC": str(nproc),
                "TRAINWRIGHT_POD_IP": f"{block}.{index + 1}",
                "TRAINWRIGHT_WORKSPACE": str(self.workspace),
                "TRAINWRIGHT_CHECKPOINT_DIR": str(self.workspace / "checkpoints"),
                "TRAINWRIGHT_ARTIFACT_DIR": str(self.workspace / "artifacts"),
                "TRAINWRIGHT_CHECKPOINT_KEEP": "3",
                "TRAINWRIGHT_RESUME": "Auto",
                "TRAINWRIGHT_METRICS_PORT": "9400",
                "TRAINWRIGHT_DATA": '{"train": {"builtin": "digits"}}',
                "TRAINWRIGHT_TERMINATION_LOG": str(self.folder / f"termination-{number}-{index}"),
                "MASTER_ADDR": f"{block}.1",
                "MASTER_PORT": str(port),
                "RANK": str(index),
                "WORLD_SIZE": str(workers),
                "LOCAL_RANK": "0",
                "LOCAL_WORLD_SIZE": "1",
                "PET_NNODES": str(workers),
                "PET_NODE_RANK": str(index),
                "PET_NPROC_PER_NODE": str(nproc),
                "PET_MASTER_ADDR": f"{block}.1",
                "PET_MASTER_PORT": str(port),
                "PET_RDZV_ID": f"uid-1-{attempt}",
                "PET_MAX_RESTARTS": "0",
                "OMP_NUM_THREADS": "1",
                **own[index],
                **environ,
            }
            if config is not None:
                path = self.folder / f"config-{number}.yaml"
                path.write_text(config)
                contract["TRAINWRIGHT_CONFIG"] = str(path)
            argv = [str(LAUNCHER), *options, *arguments] if launcher else list(arguments)
            present = {name: value for name, value in contract.items() if value is not None}
            started.append(Worker(argv, present, self.folder, cwd or self.folder))
        self._all.extend(started)
        return started

    def log(self, rank: int, attempt: int = 1) -> str:
        """What a rank has written so far."""
        path = self.workspace / "logs" / f"attempt-{attempt}" / f"rank-{rank}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def report(self) -> dict[str, Any]:
        """What the training left in its artifact."""
        return json.loads((self.workspace / "artifacts/report.json").read_text())

    def end(self) -> None:
        left = []
        for worker in self._all:
            if worker.process.poll() is None:
                worker.process.terminate()
                worker.process.kill()
                worker.process.wait(10)
                # The launcher was killed by this test's end: its ranks die with it.
                wait_for(lambda worker=worker: not worker.leftovers(), "the ranks of a killed launcher to end", 10)
            left += worker.leftovers()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"processes left behind: {left}"

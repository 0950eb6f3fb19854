"""One node: containerd and a kubelet, and how they are taken away with all that they have mounted and made."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from cluster import network, oci
from trainwright.local.processes import Processes

PAUSE_IMAGE = "localhost/pause:1"
NAMESPACE = "k8s.io"
STOP_SECONDS = 10.0


class Containers:
    """containerd with its images under `store`, which outlives the cluster, and all else under `state`."""

    def __init__(self, state: Path, store: Path, processes: Processes) -> None:
        self._state = state
        self._store = store
        self._processes = processes
        self.socket = state / "containerd.sock"

    def start(self) -> None:
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        network.put(
            self._state / "containerd.toml",
            f"""version = 2
root = "{self._store}"
state = "{self._state / "run"}"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self._state / "opt"}"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  # A machine that is itself confined may not lower what the kernel's out-of-memory killer thinks of a process.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [{cri}.cni]
    bin_dir = "{network.cni_programs()}"
    conf_dir = "{self._state / "cni"}"
  [{cri}.containerd]
    default_runtime_name = "runc"
  [{cri}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [{cri}.containerd.runtimes.runc.options]
      BinaryName = "runc"
""",
        )
        self._store.mkdir(parents=True, exist_ok=True)
        self._processes.start("containerd", ["containerd", "-c", self._state / "containerd.toml", "-l", "warn"])
        deadline = time.monotonic() + 30
        while not self._works("version"):
            if time.monotonic() > deadline or not self._processes.alive("containerd"):
                raise RuntimeError(f"containerd does not answer; its last lines:\n{self._processes.tail('containerd')}")
            time.sleep(0.1)

    def has(self, archive: Path) -> bool:
        """Whether the images of an archive are there as they are in it."""
        known = {}
        for line in self._ctr("images", "ls").splitlines()[1:]:
            name, _, digest, *_ = line.split()
            known[name] = digest
        return all(known.get(name) == digest for name, digest in oci.named(archive).items())

    def load(self, archive: Path) -> None:
        """Import an archive's images. Raises `RuntimeError`."""
        self._ctr("images", "import", "--all-platforms", str(archive))

    def pids(self, pod: str) -> list[int]:
        """Processes of the host that are a pod's containers' first ones, without the one that holds its namespaces."""
        found = []
        for line in self._ctr("tasks", "ls").splitlines()[1:]:
            name, pid, *_ = line.split()
            labels = self._ctr("containers", "info", name)
            if f'"io.kubernetes.pod.name": "{pod}"' in labels and '"io.cri-containerd.kind": "container"' in labels:
                found.append(int(pid))
        return found

    def stop(self) -> None:
        """End all containers, then containerd itself."""
        if self._processes.alive("containerd"):
            for task in self._ctr("tasks", "ls", "-q").split():
                self._works("tasks", "kill", "-s", "9", task)
            for container in self._ctr("containers", "ls", "-q").split():
                self._works("tasks", "rm", "-f", container)
                self._works("containers", "rm", container)
        self._processes.stop("containerd", grace=STOP_SECONDS)

    def _ctr(self, *words: str) -> str:
        result = subprocess.run(["ctr", "-a", self.socket, "-n", NAMESPACE, *words], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"ctr {' '.join(words)}: {result.stderr.strip() or 'no word of why'}")
        return result.stdout

    def _works(self, *words: str) -> bool:
        with contextlib.suppress(RuntimeError):
            self._ctr(*words)
            return True
        return False


def kubelet_command(program: Path, *, name: str, state: Path, pki: Path, socket: Path) -> list[str]:
    """The kubelet of a node of that name, with certificates of its own."""
    # Of a machine that others use too: nothing is evicted, no image is thrown away, its files stay below `state`.
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.NODE_ADDRESS,
        "containerRuntimeEndpoint": f"unix://{socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "clusterDNS": [network.DNS_ADDRESS],
        "clusterDomain": network.DOMAIN,
        "resolvConf": str(state / "resolv.conf"),
        "podLogsDir": str(state / "pod-logs"),
        "staticPodPath": "",
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
        "serializeImagePulls": False,
        "registerNode": True,
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 8,
        "syncFrequency": "10s",
        "shutdownGracePeriod": "0s",
    }
    network.put(state / "kubelet.yaml", yaml.safe_dump(config))
    network.put(state / "resolv.conf", "")
    return [
        str(program),
        f"--config={state / 'kubelet.yaml'}",
        f"--kubeconfig={pki / f'{name}.kubeconfig'}",
        f"--hostname-override={name}",
        f"--node-ip={network.NODE_ADDRESS}",
        f"--root-dir={state / 'kubelet'}",
    ]


def clear(state: Path, folders: Sequence[Path]) -> None:
    """Unmount what is below `state` and `folders`, take the kubelet's groups away, and remove `state`. Raises `RuntimeError`."""
    below = (str(state), *map(str, folders))
    for place in sorted(_mounts(below), reverse=True):
        subprocess.run(["umount", "-l", place], capture_output=True, check=False)
    if left := _mounts(below):
        raise RuntimeError(f"still mounted, so nothing is removed: {', '.join(left)}")
    for folder, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        if "/kubepods" in folder:
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
    shutil.rmtree(state, ignore_errors=True)
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink()


def _mounts(below: Sequence[str]) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    places = (line.split()[4].encode().decode("unicode_escape") for line in lines)
    return [place for place in places if any(place == one or place.startswith(f"{one}/") for one in below)]

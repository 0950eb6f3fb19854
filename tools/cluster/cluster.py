"""The whole cluster: brought up, found again, and taken down without a trace."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster import machine, network, node, oci, storage
from cluster.machine import Progress
from trainwright.api.names import GPU
from trainwright.local import binaries
from trainwright.local.controlplane import ControlPlane, Setup
from trainwright.local.paths import cache, home
from trainwright.local.processes import Processes

NODE = "node-1"
READY_SECONDS = 60.0
MAX_PATH = 60
TINY_IMAGE = "localhost/tiny:1"
# Counted by tests: who did what. Reads of the cluster's own parts would drown it.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
_PROCESSES = ("kubelet", "coredns", "kube-proxy")


class Cluster:
    """One real node and its control plane. `state` is thrown away by `down`; images are kept in the cache."""

    def __init__(self, state: Path | None = None) -> None:
        self.state = state or home() / "cluster"
        if len(str(self.state)) > MAX_PATH:
            raise machine.CannotHaveNode(f"the path is too long for the sockets below it (at most {MAX_PATH}): {self.state}")
        self.kubeconfig = self.state / "kubeconfig"
        self.audit_log = self.state / "audit.log"
        self.processes = Processes(self.state)
        self._store = cache() / "containers"
        self.containers = node.Containers(self.state, self._store, self.processes)
        self.programs: dict[str, Path] = {}

    def up(self, progress: Progress = lambda _: None, *, gpus: int = 0) -> None:
        """Start what doesn't run, and wait until pods can. Raises `CannotHaveNode` or `ControlPlaneUnavailable`."""
        machine.prepare(progress)
        self.programs = binaries.ensure(progress, (*binaries.TOOLS, *binaries.NODE_TOOLS, binaries.PAUSE))
        began = time.monotonic()
        self.state.mkdir(parents=True, exist_ok=True)
        network.up(self.state / "cni")
        network.put(self.state / "audit.yaml", json.dumps(AUDIT))
        self.containers.start()
        self.load(self._small_images(), progress)
        plane = self._plane()
        asyncio.run(plane.start(progress))
        self.apply([*network.dns_objects(), *storage.objects(self.state / "volumes", NODE)])
        progress("starting kube-proxy, CoreDNS and the kubelet")
        self.processes.start(
            "kube-proxy",
            network.proxy_command(self.programs["kube-proxy"], plane.pki / "proxy.kubeconfig", NODE, self.state),
        )
        self.processes.start("coredns", network.dns_command(self.programs["coredns"], plane.pki / "dns.kubeconfig", self.state))
        self.start_kubelet()
        self._wait(self._node_ready, "the node is Ready")
        self._wait(lambda: self._works("get", "serviceaccount", "default"), "the default service account")
        self.set_gpus(gpus)
        progress(f"the cluster is up after {time.monotonic() - began:.1f} s: kubectl --kubeconfig {self.kubeconfig}")

    def down(self) -> None:
        """Take everything away but the images."""
        self.stop_kubelet()
        for name in _PROCESSES:
            self.processes.stop(name, grace=0)
        self.containers.stop()
        ControlPlane(self.state, {}).stop()
        network.down()
        node.clear(self.state, [self._store])

    def load(self, archives: Iterable[Path], progress: Progress = lambda _: None) -> None:
        """Give the node the images of these archives, unless it has them."""
        for archive in archives:
            if not self.containers.has(archive):
                progress(f"giving the node {', '.join(oci.named(archive))}")
                self.containers.load(archive)

    def start_kubelet(self) -> None:
        self.processes.start(
            "kubelet",
            node.kubelet_command(
                self.programs["kubelet"], name=NODE, state=self.state, pki=self.state / "pki", socket=self.containers.socket
            ),
        )

    def stop_kubelet(self) -> None:
        """At once, as a machine that hangs; its pods go on."""
        self.processes.stop("kubelet", grace=0)

    def set_gpus(self, count: int) -> None:
        """The node has so many pretended GPUs."""
        amount = {GPU: str(count)} if count else {GPU: None}
        patch = json.dumps({"status": {"capacity": amount, "allocatable": amount}})
        self.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", patch)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What it prints. Raises `RuntimeError` with what it says."""
        result = subprocess.run(
            [self.programs["kubectl"], "--kubeconfig", self.kubeconfig, *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if result.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(words)}: {result.stderr.strip()}")
        return result.stdout

    def apply(self, objects: list[dict[str, Any]]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def _plane(self) -> ControlPlane:
        setup = Setup(
            address=network.NODE_ADDRESS,
            addresses=("127.0.0.1", network.NODE_ADDRESS, network.API_ADDRESS),
            kinds=False,
            clients={
                NODE: (f"system:node:{NODE}", "system:nodes"),
                "proxy": ("system:kube-proxy", None),
                "dns": ("system:coredns", None),
            },
            servers={"kubelet": [NODE], "apiserver": [f"kubernetes.default.svc.{network.DOMAIN}"]},
            flags={
                "apiserver": [
                    "--anonymous-auth=false",
                    "--authorization-mode=Node,RBAC",
                    "--enable-admission-plugins=NodeRestriction",
                    "--allow-privileged=true",
                    "--endpoint-reconciler-type=lease",
                    f"--service-cluster-ip-range={network.SERVICES}",
                    f"--audit-policy-file={self.state / 'audit.yaml'}",
                    f"--audit-log-path={self.audit_log}",
                ],
                "controller-manager": ["--controllers=*", "--node-monitor-period=1s", "--node-monitor-grace-period=20s"],
            },
        )
        return ControlPlane(self.state, self.programs, name="e2e", setup=setup)

    def _small_images(self) -> list[Path]:
        """What holds a pod together, and a shell with its tools."""
        folder = cache() / "images"
        applets = subprocess.run([machine.BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
        pause = oci.Content(files={"/pause": self.programs["pause"]}, links={}, entrypoint=["/pause"])
        links = {f"/bin/{name}": "busybox" for name in applets if name != "busybox"}
        tiny = oci.Content(files={"/bin/busybox": machine.BUSYBOX}, links=links, entrypoint=["/bin/sh"])
        return [
            oci.write(folder / "pause.tar", node.PAUSE_IMAGE, pause),
            oci.write(folder / "tiny.tar", TINY_IMAGE, tiny),
        ]

    def _node_ready(self) -> bool:
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return self._works("get", "node", NODE) and self.kubectl("get", "node", NODE, "-o", path) == "True"

    def _works(self, *words: str) -> bool:
        try:
            self.kubectl(*words)
        except RuntimeError:
            return False
        return True

    def _wait(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            for name in _PROCESSES:
                if not self.processes.alive(name):
                    raise RuntimeError(f"{name} ended; its last lines:\n{self.processes.tail(name)}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"not after {READY_SECONDS:.0f} s: {what}; the kubelet says:\n{self.processes.tail('kubelet')}"
                )
            time.sleep(0.2)

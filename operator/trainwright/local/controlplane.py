"""A real control plane on one machine: etcd, kube-apiserver, and if wanted kube-controller-manager and kube-scheduler.

All state lies under one folder; nothing needs root. TLS and RBAC are on, between API server and etcd too: loopback is shared
with every user of the machine. Starting is idempotent: what runs is left alone, what died is started again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import ClusterError
from trainwright.local.binaries import ControlPlaneUnavailable
from trainwright.local.certificates import CLIENTS, LOOPBACK, SERVERS, issue_all
from trainwright.local.install import install
from trainwright.local.processes import Processes

READY_SECONDS = 60.0
START_ATTEMPTS = 3
# Below the range from which Linux takes the ports of outgoing connections: there, a client that keeps dialling a dead server's
# port is sooner or later given that very port as its own, and the server can't come back.
PORTS = range(20_000, 32_000)
PORT_RELEASE_SECONDS = 3.0
GATES = "GenericWorkload=true,GangScheduling=true"
# They refuse loopback addresses, which are all that a node made of processes has; nobody here needs them.
CONTROLLERS = "*,-endpointslice-controller,-endpoints-controller,-endpointslice-mirroring-controller"
ORDER = ("scheduler", "controller-manager", "apiserver", "etcd")
_PORT_TAKEN = "address already in use"


@dataclass(frozen=True)
class Ports:
    """Loopback ports of one control plane."""

    apiserver: int
    etcd: int
    etcd_peer: int
    controller_manager: int
    scheduler: int

    def by_owner(self) -> list[tuple[str, int]]:
        """Each port with the name of the process that listens there."""
        return [
            ("apiserver", self.apiserver),
            ("etcd", self.etcd),
            ("etcd", self.etcd_peer),
            ("controller-manager", self.controller_manager),
            ("scheduler", self.scheduler),
        ]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a control plane is beside, or instead of, what a twin needs.

    `address`: where the API server listens; `flags`: of programs by the names of their processes, each instead of one of
    that name; `clients` and `servers`: further certificates; `kinds`: whether it has our kinds and a storage class.
    """

    address: str = LOOPBACK
    addresses: Sequence[str] = (LOOPBACK,)
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clients: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    servers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kinds: bool = True


class _PortTaken(ControlPlaneUnavailable):
    """Somebody else took a port between our choosing it and our using it."""


class ControlPlane:
    """One control plane under `state`; `binaries` maps names of programs to their paths."""

    def __init__(
        self,
        state: Path,
        binaries: Mapping[str, Path],
        *,
        name: str = "default",
        controllers: bool = True,
        setup: Setup | None = None,
    ) -> None:
        self.state = state
        self.kubeconfig = state / "kubeconfig"
        self.processes = Processes(state)
        self.name = name
        self._binaries = binaries
        self.pki = state / "pki"
        self._controllers = controllers
        self._setup = setup or Setup()

    async def start(self, progress: Callable[[str], None] = lambda _: None) -> Path:
        """Bring everything up and wait until all of it answers; the path of the administrator's kubeconfig."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)
        setup = self._setup
        servers = {name: [*SERVERS.get(name, ()), *setup.servers.get(name, ())] for name in {**SERVERS, **setup.servers}}
        issue_all(self.pki, clients={**CLIENTS, **setup.clients}, servers=servers, addresses=setup.addresses)
        for _ in range(START_ATTEMPTS - 1):
            try:
                return await self._start(await self._ports(), progress)
            except _PortTaken:
                progress("a port was taken meanwhile; choosing others")
        return await self._start(await self._ports(), progress)

    async def _start(self, ports: Ports, progress: Callable[[str], None]) -> Path:
        self._write_kubeconfigs(ports)
        progress("starting etcd and kube-apiserver")
        self._launch("etcd", self._etcd(ports))
        self._launch("apiserver", self._apiserver(ports))
        await self._ready()
        if self._setup.kinds:
            cluster = await KubeCluster.connect(kubeconfig=self.kubeconfig)
            try:
                await install(cluster)
            finally:
                await cluster.close()
        if self._controllers:
            progress("starting kube-controller-manager and kube-scheduler")
            self._launch("controller-manager", self._controller_manager(ports))
            self._launch("scheduler", self._scheduler(ports))
            await self._listening(ports)
        return self.kubeconfig

    def _launch(self, name: str, command: list[str]) -> None:
        """Flags of the setup's stand in the place of those of the same name."""
        program, *flags = command
        named = {flag.partition("=")[0]: flag for flag in (*flags, *self._setup.flags.get(name, ()))}
        self.processes.start(name, [program, *named.values()])

    def stop(self) -> None:
        """End all processes. The state is thrown away with them, so none is given time: the API server would take a minute."""
        for name in ORDER:
            self.processes.stop(name, grace=0)

    async def _ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        cluster = await KubeCluster.connect(kubeconfig=self.kubeconfig)
        try:
            while True:
                self._still_alive("etcd", "apiserver")
                try:
                    await cluster.ready()
                    return
                except ClusterError as error:
                    if asyncio.get_running_loop().time() > deadline:
                        tail = self.processes.tail("apiserver")
                        raise ControlPlaneUnavailable(f"the API server is not ready: {error}; its last lines:\n{tail}") from None
                await asyncio.sleep(0.1)
        finally:
            await cluster.close()

    async def _listening(self, ports: Ports) -> None:
        """Wait for the controllers: one that ends at its start does so before it listens, and nobody else would notice."""
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        for name, port in (("controller-manager", ports.controller_manager), ("scheduler", ports.scheduler)):
            while not self.processes.listens(name, port):
                self._still_alive(name)
                if asyncio.get_running_loop().time() > deadline:
                    raise ControlPlaneUnavailable(f"{name} does not listen; its last lines:\n{self.processes.tail(name)}")
                await asyncio.sleep(0.05)

    def _still_alive(self, *names: str) -> None:
        for name in names:
            if not self.processes.alive(name):
                tail = self.processes.tail(name)
                kind = _PortTaken if _PORT_TAKEN in tail else ControlPlaneUnavailable
                raise kind(f"{name} ended at its start; its last lines:\n{tail}")

    async def _ports(self) -> Ports:
        """The ports of an earlier start as long as all can be had again: whoever still runs knows no others.

        Otherwise free ones, and whatever runs is stopped, to be started with them.
        """
        path = self.state / "ports.json"
        if path.exists():
            ports = Ports(**json.loads(path.read_text()))
            if all([self.processes.alive(owner) or await _released(port) for owner, port in ports.by_owner()]):
                return ports
            for name in self.processes.names():
                self.processes.stop(name, grace=0)
        shuffled = random.SystemRandom().sample(PORTS, len(PORTS))
        ports = Ports(*itertools.islice(filter(_is_free, shuffled), len(fields(Ports))))
        path.write_text(json.dumps(ports.__dict__))
        return ports

    def _write_kubeconfigs(self, ports: Ports) -> None:
        for identity, path in (
            ("admin", self.kubeconfig),
            *((name, self.pki / f"{name}.kubeconfig") for name in ("controller-manager", "scheduler", *self._setup.clients)),
        ):
            config = self._kubeconfig(identity, f"https://{self._setup.address}:{ports.apiserver}")
            aside = path.with_suffix(".part")
            aside.touch(mode=0o600)
            aside.write_text(yaml.safe_dump(config, sort_keys=False))
            aside.rename(path)

    def _kubeconfig(self, identity: str, server: str) -> dict[str, Any]:
        context = f"trainwright-{self.name}"
        user = f"{context}-{identity}"
        certificate = {"client-certificate": self._file(f"{identity}.crt"), "client-key": self._file(f"{identity}.key")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
            "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority": self._file("ca.crt")}}],
            "users": [{"name": user, "user": certificate}],
        }

    def _file(self, name: str) -> str:
        return str(self.pki / name)

    def _etcd(self, ports: Ports) -> list[str]:
        client, peer = f"https://{LOOPBACK}:{ports.etcd}", f"https://{LOOPBACK}:{ports.etcd_peer}"
        certificate, key, ca = self._file("etcd.crt"), self._file("etcd.key"), self._file("ca.crt")
        return [
            str(self._binaries["etcd"]),
            f"--data-dir={self.state / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            *(f"--{side}cert-file={certificate}" for side in ("", "peer-")),
            *(f"--{side}key-file={key}" for side in ("", "peer-")),
            *(f"--{side}trusted-ca-file={ca}" for side in ("", "peer-")),
            *(f"--{side}client-cert-auth" for side in ("", "peer-")),
            # The gateway would be a client of its own with the server's certificate; nobody here speaks JSON to etcd.
            "--enable-grpc-gateway=false",
            # A twin's cluster is thrown away with its state; waiting for the disk would only slow tests down.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver(self, ports: Ports) -> list[str]:
        return [
            str(self._binaries["kube-apiserver"]),
            f"--etcd-servers=https://{LOOPBACK}:{ports.etcd}",
            f"--etcd-cafile={self._file('ca.crt')}",
            f"--etcd-certfile={self._file('etcd-client.crt')}",
            f"--etcd-keyfile={self._file('etcd-client.key')}",
            f"--bind-address={self._setup.address}",
            f"--advertise-address={self._setup.address}",
            f"--secure-port={ports.apiserver}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self._file('apiserver.crt')}",
            f"--tls-private-key-file={self._file('apiserver.key')}",
            f"--client-ca-file={self._file('ca.crt')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._file('service-accounts.pub')}",
            f"--service-account-signing-key-file={self._file('service-accounts.key')}",
            f"--kubelet-certificate-authority={self._file('ca.crt')}",
            f"--kubelet-client-certificate={self._file('kubelet-client.crt')}",
            f"--kubelet-client-key={self._file('kubelet-client.key')}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={self._file('ca.crt')}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={self._file('front-proxy.crt')}",
            f"--proxy-client-key-file={self._file('front-proxy.key')}",
            f"--feature-gates={GATES}",
            "--runtime-config=scheduling.k8s.io/v1alpha2=true",
            "--profiling=false",
        ]

    def _controller_manager(self, ports: Ports) -> list[str]:
        kubeconfig = self._file("controller-manager.kubeconfig")
        return [
            str(self._binaries["kube-controller-manager"]),
            *_as_client(kubeconfig, ports.controller_manager),
            f"--controllers={CONTROLLERS}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._file('service-accounts.key')}",
            f"--root-ca-file={self._file('ca.crt')}",
            f"--feature-gates={GATES}",
            # Each controller fetches a token of its own at the start; at the usual 20 requests a second that takes seconds.
            "--kube-api-qps=300",
            "--kube-api-burst=600",
            # A node made of processes that is gone is gone: don't leave its pods for five minutes.
            "--node-monitor-period=2s",
            "--node-monitor-grace-period=20s",
        ]

    def _scheduler(self, ports: Ports) -> list[str]:
        kubeconfig = self._file("scheduler.kubeconfig")
        return [
            str(self._binaries["kube-scheduler"]),
            *_as_client(kubeconfig, ports.scheduler),
            f"--feature-gates={GATES}",
            # At the usual 50 requests a second a gang of 500 workers waits 10 s for its bindings alone.
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
        ]


def _as_client(kubeconfig: str, port: int) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--profiling=false",
    ]


async def _released(port: int) -> bool:
    """Whether a port is free, or will be at once: a process that was killed holds its sockets for a moment longer."""
    deadline = asyncio.get_running_loop().time() + PORT_RELEASE_SECONDS
    while not _is_free(port):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def _is_free(port: int) -> bool:
    """Whether a server could listen there now; connections that an earlier one left in TIME_WAIT don't count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True

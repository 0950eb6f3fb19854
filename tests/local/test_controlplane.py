"""The control plane under its twin: what it survives, what it tells when it can't, and who may speak to it.

Real programs, each test with a state folder of its own; no node and no operator unless a test asks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.twin import changed_home, command_lines
from support.waiting import eventually
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import CONFIG_MAPS, NODES, PODS, Object
from trainwright.local import binaries, controlplane
from trainwright.local.binaries import ControlPlaneUnavailable
from trainwright.local.controlplane import LOOPBACK, ControlPlane, Ports
from trainwright.local.twin import Twin


@pytest.fixture
def state() -> Iterator[Path]:
    """A short private folder; whatever a test started under it is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="tw-"))
    yield folder
    ControlPlane(folder, {}).stop()
    shutil.rmtree(folder)


def new_plane(state: Path, *, controllers: bool = False) -> ControlPlane:
    return ControlPlane(state, binaries.ensure(), name="t", controllers=controllers)


@contextlib.asynccontextmanager
async def client(plane: ControlPlane):  # type: ignore[no-untyped-def]
    cluster = await KubeCluster.connect(kubeconfig=plane.kubeconfig)
    try:
        yield cluster
    finally:
        await cluster.close()


async def test_starting_again_starts_nothing_and_changes_nothing(state: Path) -> None:
    plane = new_plane(state)
    await plane.start()
    before = (plane.processes.process("etcd"), plane.processes.process("apiserver"), plane.kubeconfig.read_text())
    await plane.start()
    assert (plane.processes.process("etcd"), plane.processes.process("apiserver"), plane.kubeconfig.read_text()) == before


@pytest.mark.parametrize("victims", [["apiserver"], ["apiserver", "etcd"]], ids="+".join)
async def test_what_was_killed_comes_back_on_its_port_with_the_data(state: Path, victims: list[str]) -> None:
    plane = new_plane(state)
    await plane.start()
    kept = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "default"}, "data": {"a": "b"}}
    async with client(plane) as cluster:
        await cluster.create(CONFIG_MAPS, kept)
    ports = (state / "ports.json").read_text()
    for name in victims:
        plane.processes.process(name).kill()
        await eventually(lambda name=name: not plane.processes.alive(name))
    await new_plane(state).start()
    assert (state / "ports.json").read_text() == ports, "nodes and operator know no other port"
    async with client(plane) as cluster:
        assert (await cluster.get(CONFIG_MAPS, "kept", "default"))["data"] == {"a": "b"}


@pytest.mark.parametrize("port", ["etcd", "controller_manager"])
async def test_a_port_that_somebody_else_took_is_replaced(state: Path, port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = new_plane(state, controllers=True)
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        ports = {**(await plane._ports()).__dict__, port: other.getsockname()[1]}
        (state / "ports.json").write_text(json.dumps(ports))
        # All look free when they are chosen, as in the moment before somebody else comes; what is asked later is the truth.
        answers = iter([True] * len(ports))
        is_free = controlplane._is_free
        monkeypatch.setattr(controlplane, "_is_free", lambda asked: next(answers, None) or is_free(asked))
        said: list[str] = []
        await plane.start(said.append)
        assert "a port was taken meanwhile; choosing others" in said
        assert all(plane.processes.alive(name) for name in ("etcd", "apiserver", "controller-manager", "scheduler"))
        assert json.loads((state / "ports.json").read_text())[port] != other.getsockname()[1]


@pytest.mark.parametrize("broken", ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])
async def test_a_component_that_ends_at_its_start_is_named_with_its_last_lines(state: Path, broken: str) -> None:
    script = state / "broken"
    script.write_text("#!/bin/sh\necho the disk is on fire\nexit 1\n")
    script.chmod(0o755)
    plane = ControlPlane(state, {**binaries.ensure(), broken: script}, name="t")
    with pytest.raises(ControlPlaneUnavailable, match="the disk is on fire") as raised:
        await plane.start()
    assert broken.removeprefix("kube-") in str(raised.value)


async def test_nothing_of_it_is_open_to_other_users_of_the_machine(state: Path) -> None:
    plane = new_plane(state)
    await plane.start()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE(plane.kubeconfig.stat().st_mode) == 0o600
    ports = Ports(**json.loads((state / "ports.json").read_text()))
    stranger = ssl.create_default_context()
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE
    for port in (ports.etcd, ports.etcd_peer):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(_ask, port, stranger)
    assert b" 403 " in await asyncio.to_thread(_ask, ports.apiserver, stranger), "anonymous, and RBAC says no"


def _ask(port: int, context: ssl.SSLContext) -> bytes:
    """The first line of the answer; with TLS 1.3 a refused client learns of it when it reads."""
    with (
        socket.create_connection((LOOPBACK, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=LOOPBACK) as secure,
    ):
        secure.sendall(b"GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        line = secure.recv(200)
        if not line:
            raise ConnectionError("closed without an answer")
        return line


async def test_a_twin_mended_by_a_plain_up_is_what_it_was(state: Path) -> None:
    with changed_home(state):
        twin = Twin("t")
        try:
            await twin.up(nodes=2, gpus_per_node=3, operator=False)
            for name in ("node-1", "etcd", "apiserver"):
                twin._processes.process(name).kill()
                await eventually(lambda name=name: not twin._processes.alive(name))
            kubeconfig = await twin.up(operator=False)
            assert set(twin._processes.names()) == {"etcd", "apiserver", "controller-manager", "scheduler", "node-1", "node-2"}
            cluster = await KubeCluster.connect(kubeconfig=kubeconfig)
            try:
                nodes = (await cluster.list(NODES)).items
                assert [node["status"]["capacity"]["nvidia.com/gpu"] for node in nodes] == ["3", "3"]
                await cluster.create(PODS, _pod("after", "true"))
                phase = None

                async def succeeded() -> bool:
                    nonlocal phase
                    phase = (await cluster.get(PODS, "after", "default"))["status"]["phase"]
                    return phase == "Succeeded"

                await eventually(succeeded, within=30, every=0.1, what="scheduler and nodes still work")
            finally:
                await cluster.close()
        finally:
            await asyncio.to_thread(twin.down)
        assert command_lines(str(state)) == []
        assert not twin.state.exists()


def _pod(name: str, *command: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example", "command": list(command)}]},
    }

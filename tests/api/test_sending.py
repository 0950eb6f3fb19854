"""An artifact sent through a real API server to a receiver that runs for real; only the pod around it is an object and no more."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.progress import Progress

from support.twin import ROOT, Kubectl, accounts_ready
from support.waiting import eventually
from trainwright.cli.sending.folder import read
from trainwright.cli.sending.line import Line
from trainwright.cli.sending.send import PIECE_BYTES, _transfer
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import NAMESPACES, PODS, ClusterError
from trainwright.local import environments
from trainwright.local.controlplane import ControlPlane

TOKEN = "of one time"
NAMESPACE = "sending"
PUBLISHER = ROOT / "trainer_images" / "serving" / "publisher"


def own_address() -> str:
    """One of this machine's that is not the loopback device's: an API server hands nothing on to that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but the loopback device's")
        return str(probe.getsockname()[0])


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    files = {"weights": os.urandom(2 * PIECE_BYTES + 7), "empty": b"", "a name with 100 % blanks": b"x"}
    facts = {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": facts}))
    return folder


@pytest.fixture
async def address(artifact: Path, tmp_path: Path) -> str:
    await environments.ensure(PUBLISHER, print)
    return own_address()


@pytest.fixture
def receiver(artifact: Path, address: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "incoming").mkdir()
    into = tmp_path / "incoming" / read(artifact).digest
    variables = {"TRAINWRIGHT_POD_IP": address, "TRAINWRIGHT_TOKEN_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    command = [environments.executables(PUBLISHER) / "trainwright-publisher", "receive", "--into", str(into)]
    process = subprocess.Popen(command, env={**os.environ, **variables})
    yield process
    process.kill()
    process.wait()


async def test_an_artifact_goes_through_the_api_server(
    plane: tuple[ControlPlane, Kubectl], artifact: Path, address: str, receiver: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    cluster = await KubeCluster.connect(kubeconfig=plane[0].kubeconfig)
    line = Line(cluster, "taker", NAMESPACE, TOKEN)
    try:
        await cluster.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        await accounts_ready(cluster, NAMESPACE)
        spec = {"containers": [{"name": "receiver", "image": "publisher"}]}
        await cluster.create(PODS, {"metadata": {"name": "taker", "namespace": NAMESPACE}, "spec": spec})
        status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
        await cluster.patch(PODS, "taker", NAMESPACE, status, subresource="status")

        async def open_line() -> bool:
            try:
                # Where the pod's address leads to from here is nobody: what is left is the way through the API server.
                await line.open("127.9.9.9")
            except ClusterError:
                return False
            return True

        await eventually(open_line, within=30, every=0.3, what="the receiver answers through the API server")
        stranger = Line(cluster, "taker", NAMESPACE, "another token")
        with pytest.raises(ClusterError, match="does not answer as the receiver"):
            await stranger.open("127.9.9.9")
        sent = await _transfer(line, read(artifact), Progress(disable=True))
    finally:
        await line.close()
        await cluster.close()
    assert sent == 2 * PIECE_BYTES + 8
    assert receiver.wait(timeout=20) == 0
    (arrived,) = (tmp_path / "incoming").iterdir()
    for path in artifact.iterdir():
        assert (arrived / path.name).read_bytes() == path.read_bytes()

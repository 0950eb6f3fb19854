"""Small parts of the twin that need nothing real: names and addresses, paths, references, the search for programs."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from support.waiting import eventually
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import CONFIG_MAPS, NODES, PODS
from trainwright.local import binaries
from trainwright.local.addresses import Addresses, address_of, peers_in, subnet, with_addresses
from trainwright.local.binder import Binder
from trainwright.local.certificates import issue_all
from trainwright.local.container import Mounts, NotYet, environment, expand, field, mount
from trainwright.local.gpus import Gpus


def pod(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "team", "uid": "u", "labels": {"a": "b"}, "creationTimestamp": "1"}
    return {
        "metadata": metadata,
        "spec": {"subdomain": "gang", "hostname": "gang-worker-0", **spec},
        "status": {"podIP": "127.1.1.2"},
    }


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ("gang-worker-0.gang", "127.1.1.2"),
        ("gang-worker-0.gang.team.svc:29500", "127.1.1.2:29500"),
        ("http://gang-worker-0.gang.team.svc.cluster.local/x", "http://127.1.1.2/x"),
        ("gang-worker-0.gang,gang-worker-9.gang", "127.1.1.2,gang-worker-9.gang"),
        ("gang-worker-0.gang.other.svc", "gang-worker-0.gang.other.svc"),
        ("my-gang-worker-0.gangs", "my-gang-worker-0.gangs"),
        ("gang-worker-0", "gang-worker-0"),
    ],
)
def test_names_of_peers_become_addresses(value: str, becomes: str) -> None:
    assert with_addresses(value, pod(), {"gang-worker-0": "127.1.1.2"}) == becomes


def test_peers_are_found_and_the_newest_living_one_answers() -> None:
    assert peers_in(["x gang-worker-0.gang y", "gang-worker-1.gang.team.svc:1"], pod()) == {"gang-worker-0", "gang-worker-1"}
    assert peers_in(["gang-worker-0.gang"], pod(subdomain=None)) == set()
    dead = pod() | {"status": {"phase": "Failed", "podIP": "127.9.9.9"}}
    assert address_of("gang-worker-0", pod(), [dead, pod()]) == "127.1.1.2"
    assert address_of("gang-worker-0", pod(), [dead]) is None


def test_addresses_go_round_and_run_out() -> None:
    addresses = Addresses("127.5.5")
    first = [addresses.take(str(number)) for number in range(253)]
    assert len(set(first)) == 253
    assert addresses.take("0") == first[0]
    with pytest.raises(RuntimeError, match="all addresses"):
        addresses.take("one more")
    addresses.release("7")
    assert addresses.take("one more") == first[7]
    assert subnet("a") != subnet("b")


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("/data/in", "/real/in"),
        ("/data/in/file", "/real/in/file"),
        ("/data/input", "/real/input"),
        ("/database", "/database"),
        ("/data", "/real"),
        ('{"a": "/data/in", "b": "/data"}', '{"a": "/real/in", "b": "/real"}'),
        ("--dir=/data/in:/data", "--dir=/real/in:/real"),
        ("/other/data", "/other/data"),
    ],
)
def test_mounted_paths_are_rewritten_where_they_stand_as_a_whole(text: str, becomes: str) -> None:
    assert Mounts({"/data": Path("/real"), "/data/in": Path("/real/in")}).rewrite(text) == becomes
    assert Mounts({}).rewrite(text) == text


def test_references_in_values() -> None:
    assert expand("$(A) $(B) $$(A) $C", {"A": "1"}) == "1 $(B) $(A) $C"
    assert field(pod(), "metadata.labels['a']") == "b"
    assert field(pod(), "metadata.namespace") == "team"
    assert field(pod(), "spec.nodeName") == ""


async def test_references_that_lead_nowhere_are_named() -> None:
    cluster = MemoryCluster()
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "team"}, "data": {"k": "v"}})

    def container(optional: bool, name: str, key: str) -> dict[str, Any]:
        return {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": name, "key": key, "optional": optional}}}]}

    assert await environment(cluster, pod(), container(False, "c", "k")) == {"X": "v"}
    assert await environment(cluster, pod(), container(True, "c", "none")) == {}
    assert await environment(cluster, pod(), container(True, "none", "k")) == {}
    with pytest.raises(NotYet, match="couldn't find key none in ConfigMap c"):
        await environment(cluster, pod(), container(False, "c", "none"))
    with pytest.raises(NotYet, match='configmap "none" not found'):
        await environment(cluster, pod(), container(False, "none", "k"))


async def test_a_volume_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    container = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    with pytest.raises(NotYet, match="volume of kind hostPath"):
        await mount(MemoryCluster(), pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), container, tmp_path)


def test_real_gpus_are_handed_out_once_and_pretended_ones_only_counted() -> None:
    real = Gpus(real=["GPU-a", "GPU-b", "GPU-c"], pretended=8)
    assert real.count == 3
    assert real.take("p", 2) == "GPU-a,GPU-b"
    assert real.take("q", 1) == "GPU-c"
    assert real.take("p", 2) == "GPU-a,GPU-b"
    real.release("p")
    assert real.take("r", 1) == "GPU-a"
    pretended = Gpus(real=[], pretended=8)
    assert (pretended.count, pretended.take("p", 4)) == (8, "")


def test_certificates_are_made_once_and_keys_are_private(tmp_path: Path) -> None:
    issue_all(tmp_path)
    first = (tmp_path / "ca.crt").read_bytes()
    issue_all(tmp_path)
    assert (tmp_path / "ca.crt").read_bytes() == first
    assert stat.S_IMODE((tmp_path / "admin.key").stat().st_mode) == 0o600


async def test_the_binder_counts_what_is_free_and_speaks_like_the_scheduler() -> None:
    cluster = MemoryCluster()
    await cluster.create(NODES, {"metadata": {"name": "n"}, "spec": {}})
    ready = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {"cpu": "4", "nvidia.com/gpu": "2", "pods": "10"},
    }
    await cluster.patch(NODES, "n", None, {"status": ready}, subresource="status")
    task = asyncio.create_task(Binder(cluster).run())
    for name, gpus in (("a", 1), ("b", 1), ("c", 1)):
        resources = {"requests": {"nvidia.com/gpu": str(gpus)}}
        spec = {"containers": [{"name": "m", "resources": resources}]}
        await cluster.create(PODS, {"metadata": {"name": name, "namespace": "x"}, "spec": spec})

    async def third() -> dict[str, Any]:
        got: dict[str, Any] = await cluster.get(PODS, "c", "x")
        return got

    async def refused() -> bool:
        conditions = (await third()).get("status", {}).get("conditions", [])
        return any(one["message"] == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." for one in conditions)

    await eventually(refused)
    await cluster.delete(PODS, "a", "x", grace_seconds=0)

    async def bound() -> bool:
        return bool((await third())["spec"].get("nodeName") == "n")

    await eventually(bound)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class TestProgramsAreFoundInOrder:
    @pytest.fixture
    def fake(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Empty places to look in, and no way to download or build."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", str(tmp_path / "path"))
        monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
        monkeypatch.setattr(binaries, "_download", lambda *_: False)

        def no_build(tool: binaries.Tool, *_: object) -> None:
            raise binaries.ControlPlaneUnavailable(f"no {tool.name}")

        monkeypatch.setattr(binaries, "_build", no_build)
        return tmp_path

    @staticmethod
    def program(path: Path, version: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho Version {version}\n")
        path.chmod(0o755)

    def test_nothing_anywhere_is_one_clear_line(self, fake: Path) -> None:
        with pytest.raises(binaries.ControlPlaneUnavailable, match="no etcd"):
            binaries.ensure()

    def test_the_named_folder_comes_before_path_and_path_before_the_cache(
        self, fake: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for tool in binaries.TOOLS:
            self.program(binaries.cached(tool), "x")
        assert all("cache" in str(path) for path in binaries.ensure().values())
        for tool in binaries.TOOLS:
            self.program(fake / "path" / tool.name, tool.version)
        monkeypatch.setenv("PATH", f"{fake / 'path'}:/bin:/usr/bin")
        assert all(path.parent == fake / "path" for path in binaries.ensure().values())
        self.program(fake / "assets" / "etcd", "x")
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(fake / "assets"))
        found = binaries.ensure()
        assert found["etcd"].parent == fake / "assets"
        assert found["kubectl"].parent == fake / "path"

    def test_another_minor_version_on_path_will_not_do(self, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for tool in binaries.TOOLS:
            self.program(binaries.cached(tool), "x")
        self.program(fake / "path" / "kubectl", "v1.32.4-dispatcher")
        monkeypatch.setenv("PATH", f"{fake / 'path'}:/bin:/usr/bin")
        assert "cache" in str(binaries.ensure()["kubectl"])

    def test_what_was_built_before_an_interruption_is_kept(self, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        built: list[str] = []

        def build(tool: binaries.Tool, target: Path, _: object) -> None:
            if len(built) == 2 and "interrupted" not in built:
                built.append("interrupted")
                raise KeyboardInterrupt
            built.append(tool.name)
            self.program(target, "x")

        monkeypatch.setattr(binaries, "_build", build)
        with pytest.raises(KeyboardInterrupt):
            binaries.ensure()
        binaries.ensure()
        assert sorted(name for name in built if name != "interrupted") == sorted(tool.name for tool in binaries.TOOLS)

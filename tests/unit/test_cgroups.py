"""Where the node may make memory cgroups, on directories that look like them; real ones are in tests/local/test_node_memory.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainwright.local import cgroups
from trainwright.local.cgroups import LEAF, Groups, NoGroups, find


class Tree:
    """A machine's cgroups as files, and what /proc says of them to a process in `own`."""

    def __init__(self, root: Path, *, version: int, own: str, mounted: str = "/") -> None:
        self.proc = root / "proc"
        self.proc.mkdir()
        self.own = root / "fs" / Path(own).relative_to(mounted)
        self.own.mkdir(parents=True, exist_ok=True)
        kind, options, line = {
            1: ("cgroup", "rw,memory", f"4:cpu,memory:{own}\n0::/\n"),
            2: ("cgroup2", "rw", f"0::{own}\n"),
        }[version]
        (self.proc / "cgroup").write_text(line)
        (self.proc / "mountinfo").write_text(
            f"31 23 0:28 / /proc rw - proc proc rw\n35 31 0:32 {mounted} {root / 'fs'} rw,relatime shared:9 - {kind} {kind} {options}\n"
        )
        if version == 2:
            self.two(self.own)
        else:
            (self.own / "memory.limit_in_bytes").touch()

    @staticmethod
    def two(group: Path, *, controllers: str = "cpu memory pids", shared: str = "", pids: str = "") -> None:
        group.mkdir(exist_ok=True)
        (group / "cgroup.controllers").write_text(controllers)
        (group / "cgroup.subtree_control").write_text(shared)
        (group / "cgroup.procs").write_text(pids)


@pytest.fixture(autouse=True)
def _no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory takes no processes: that one trial of a real group is left out."""
    monkeypatch.setattr(cgroups, "_try", lambda _: None)


@pytest.fixture
def delegated(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Groups that systemd has marked: not every file system of a test takes such marks."""
    marked: set[Path] = set()

    def mark(path: Path, name: str) -> bytes:
        if path in marked and name == "user.delegate":
            return b"1"
        raise OSError("no data")

    monkeypatch.setattr(os, "getxattr", mark)
    return marked


def test_a_group_that_systemd_delegated_is_shared_out_and_its_processes_move_into_a_leaf(
    tmp_path: Path, delegated: set[Path]
) -> None:
    tree = Tree(tmp_path, version=2, own="/user.slice/run-7.scope")
    tree.two(tree.own, pids="11\n")
    delegated.add(tree.own)
    (tree.own / LEAF).mkdir()
    assert find(proc=tree.proc, named="") == Groups(tree.own, 2)
    assert (tree.own / LEAF / "cgroup.procs").read_text() == "11"
    assert (tree.own / "cgroup.subtree_control").read_text() == "+memory"


def test_who_is_in_that_leaf_finds_the_group_above_it(tmp_path: Path, delegated: set[Path]) -> None:
    tree = Tree(tmp_path, version=2, own=f"/user.slice/run-7.scope/{LEAF}")
    tree.two(tree.own.parent, shared="memory")
    delegated.add(tree.own.parent)
    assert find(proc=tree.proc, named="") == Groups(tree.own.parent, 2)
    assert not (tree.own.parent / "cgroup.procs").read_text()


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_that_is_another_s_is_left_alone(
    tmp_path: Path, delegated: set[Path], version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(tmp_path, version=version, own="/others/session")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    before = sorted(tree.own.rglob("*"))
    with pytest.raises(NoGroups, match="was not given to this user; a group of your own can be named in TRAINWRIGHT_CGROUP"):
        find(proc=tree.proc, named="")
    assert sorted(tree.own.rglob("*")) == before


def test_the_root_of_what_a_process_sees_is_its_own(tmp_path: Path, delegated: set[Path]) -> None:
    tree = Tree(tmp_path, version=2, own="/")
    tree.two(tree.own, shared="memory", pids="1\n")
    assert find(proc=tree.proc, named="") == Groups(tree.own, 2)
    assert (tree.own / "cgroup.procs").read_text() == "1\n"


def test_a_group_of_version_1_that_belongs_to_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, version=1, own="/alice")
    os.chown(tree.own, 1000, -1) if os.geteuid() == 0 else None
    monkeypatch.setattr(os, "geteuid", lambda: tree.own.stat().st_uid)
    assert find(proc=tree.proc, named="") == Groups(tree.own, 1)


def test_a_mount_that_shows_part_of_the_tree(tmp_path: Path, delegated: set[Path]) -> None:
    tree = Tree(tmp_path, version=2, own="/docker/abc/job", mounted="/docker/abc")
    delegated.add(tmp_path / "fs" / "job")
    assert find(proc=tree.proc, named="").path == tmp_path / "fs" / "job"


def test_a_named_group_is_used_and_nobody_is_moved(tmp_path: Path) -> None:
    group = tmp_path / "given"
    Tree.two(group, pids="7\n")
    assert find(named=str(group)) == Groups(group, 2)
    assert (group / "cgroup.procs").read_text() == "7\n"
    assert (group / "cgroup.subtree_control").read_text() == "+memory"


@pytest.mark.parametrize(
    ("controllers", "said"),
    [("cpu pids", "has no memory controller"), (None, "is no cgroup with memory limits")],
    ids=["no memory controller", "any directory"],
)
def test_a_named_group_that_will_not_do_is_refused_with_the_reason(tmp_path: Path, controllers: str | None, said: str) -> None:
    if controllers:
        Tree.two(tmp_path, controllers=controllers)
    with pytest.raises(NoGroups, match=said):
        find(named=str(tmp_path))


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text("31 23 0:28 / /proc rw - proc proc rw\n")
    with pytest.raises(NoGroups, match="no cgroup with memory limits is mounted"):
        find(proc=tmp_path, named="")


def test_limits_are_written_as_each_version_has_them(tmp_path: Path) -> None:
    for version, there, written in (
        (2, ["memory.swap.max", "memory.oom.group"], {"memory.max": "1000", "memory.swap.max": "0", "memory.oom.group": "1"}),
        (1, ["memory.memsw.limit_in_bytes"], {"memory.limit_in_bytes": "1000", "memory.memsw.limit_in_bytes": "1000"}),
        (2, [], {"memory.max": "1000"}),
    ):
        group = tmp_path / "group"
        group.mkdir()
        for name in there:
            (group / name).touch()
        cgroups.write_limits(group, version, 1000.0)
        assert {path.name: path.read_text() for path in group.iterdir()} == written
        for path in group.iterdir():
            path.unlink()
        group.rmdir()

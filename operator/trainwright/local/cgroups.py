"""A memory cgroup for each container, where this user may make some: the kernel then holds the container to its limit.

Only groups that were given to us are used: one that is named in TRAINWRIGHT_CGROUP, or our own where it is delegated. Root can
write to every group of a machine, and yet they are others': whoever made them counts on what is in there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

NAMED = "TRAINWRIGHT_CGROUP"
# What a delegated group itself had in it moves here: version 2 wants processes in leaves only.
LEAF = "trainwright-processes"
PREFIX = "trainwright-"
NOTE = "cgroup"
REMOVE_SECONDS = 5.0


class NoGroups(RuntimeError):
    """There is no group to make others in; the message says why."""


@dataclass(frozen=True)
class Group:
    """The group of one container."""

    path: Path

    @property
    def procs(self) -> Path:
        """Who writes 0 here is in the group, with all that it starts from then on."""
        return self.path / "cgroup.procs"

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed something in it for want of memory."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                counts = dict(line.split() for line in (self.path / name).read_text().splitlines())
                return int(counts.get("oom_kill", 0)) > 0
        return False

    def remove(self) -> None:
        """Kill what is left in it, and take it away."""
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            for pid in _pids(self.path):
                with contextlib.suppress(OSError):
                    os.kill(pid, 9)
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    log.warning("the memory cgroup %s stays: %s", self.path, error.strerror)
                    return
                time.sleep(0.02)


@dataclass(frozen=True)
class Groups:
    """Where containers get groups of their own. `version` of cgroups: 1 or 2."""

    path: Path
    version: int

    def __str__(self) -> str:
        return f"cgroup v{self.version} at {self.path}"

    def make(self, name: str, *, limit: float | None, note: Path) -> Group:
        """A new group, held to `limit` bytes. It is noted in the folder `note` before it is made, so that nobody loses it."""
        group = Group(self.path / f"{PREFIX}{name}")
        group.remove()
        (note / NOTE).write_text(str(group.path))
        group.path.mkdir()
        write_limits(group.path, self.version, limit)
        return group


def noted(folder: Path) -> Group | None:
    """The group that an agent noted there, if it still is."""
    with contextlib.suppress(OSError):
        group = Group(Path((folder / NOTE).read_text()))
        return group if group.path.name.startswith(PREFIX) and group.path.is_dir() else None
    return None


def clear(folders: Iterable[Path]) -> None:
    """Remove the groups that are noted in these folders, with what runs in them."""
    for folder in folders:
        if group := noted(folder):
            group.remove()


def groups_if_any() -> Groups | None:
    """Where groups can be made, if anywhere; which of both it is goes to the log."""
    try:
        groups = find()
    except NoGroups as reason:
        log.info("memory limits: watched, because %s", reason)
        return None
    log.info("memory limits: held by the kernel, %s", groups)
    return groups


def find(*, proc: Path = Path("/proc/self"), named: str | None = None) -> Groups:
    """Where groups can be made, tried out. Raises `NoGroups`."""
    named = os.environ.get(NAMED, "") if named is None else named
    groups = _given(Path(named)) if named else _own(proc)
    try:
        if groups.version == 2:
            _share_out(groups.path, ours=not named)
        _try(groups)
    except OSError as error:
        raise NoGroups(f"{groups} will not do: {error.strerror or error}") from None
    except subprocess.CalledProcessError as error:
        raise NoGroups(f"{groups} takes no processes from where this runs: {error.stderr.decode().strip()}") from None
    return groups


def _given(path: Path) -> Groups:
    if (path / "cgroup.controllers").exists():
        return Groups(path, 2)
    if (path / "memory.limit_in_bytes").exists():
        return Groups(path, 1)
    raise NoGroups(f"{NAMED} names {path}, which is no cgroup with memory limits")


def _own(proc: Path) -> Groups:
    """The group that this process is in, where that was given to it."""
    for version, path, root in _memberships(proc):
        groups = Groups(path.parent if path.name == LEAF else path, version)
        if version == 2 and "memory" not in _words(groups.path / "cgroup.controllers"):
            continue
        if root or _delegated(groups):
            return groups
        raise NoGroups(f"{groups} was not given to this user; a group of your own can be named in {NAMED}")
    raise NoGroups("no cgroup with memory limits is mounted")


def _memberships(proc: Path) -> list[tuple[int, Path, bool]]:
    """Version and path of the groups of a process, and whether each is the root of those that it sees."""
    own = {}
    for line in (proc / "cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            own[2 if number == "0" else 1] = path
    found = []
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        version = {"cgroup2": 2, "cgroup": 1}.get(kind, 0)
        if version in own and (version == 2 or "memory" in options.split(",")):
            root, mounted = before.split(" ")[3:5]
            path = own[version]
            below = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path(path.lstrip("/"))
            found.append((version, Path(mounted) / below, path == "/"))
    return sorted(found, key=lambda one: one[0])


def _delegated(groups: Groups) -> bool:
    """Version 1: it was made this user's, who isn't root. Version 2: systemd says so; it also owns what it gives to nobody."""
    if groups.version == 1:
        owner = groups.path.stat().st_uid
        return owner == os.geteuid() != 0
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            return os.getxattr(groups.path, name) == b"1"
    return False


def _share_out(path: Path, *, ours: bool) -> None:
    """Let groups below have memory limits. Processes of a group that was delegated for this very command move into a leaf."""
    control = path / "cgroup.subtree_control"
    if "memory" in _words(control):
        return
    if "memory" not in _words(path / "cgroup.controllers"):
        raise NoGroups(f"{path} has no memory controller")
    if ours and _delegated(Groups(path, 2)):
        leaf = path / LEAF
        leaf.mkdir(exist_ok=True)
        for pid in _pids(path):
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(str(pid))
    control.write_text("+memory")


def _try(groups: Groups) -> None:
    """Make a group and put a process into it: what is allowed depends on more than on the rights to one folder."""
    group = Group(groups.path / f"{PREFIX}try-{os.getpid()}")
    group.path.mkdir()
    try:
        subprocess.run(["sh", "-c", 'echo 0 > "$0"', group.procs], check=True, stderr=subprocess.PIPE)
    finally:
        group.remove()


def write_limits(group: Path, version: int, limit: float | None) -> None:
    """Hold a group to so many bytes, swap included; the first file is what it is all about, the others not every kernel has."""
    if version == 2:
        values = {"memory.max": limit, "memory.swap.max": None if limit is None else 0, "memory.oom.group": 1}
    else:
        values = {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
    for number, (name, value) in enumerate(values.items()):
        if value is not None and (number == 0 or (group / name).exists()):
            (group / name).write_text(str(int(value)))


def _pids(path: Path) -> list[int]:
    try:
        return [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []

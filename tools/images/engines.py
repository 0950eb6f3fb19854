"""What builds images: buildah, or docker. Both take the same Containerfiles."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from images.catalogue import ROOT
from trainwright.local.paths import cache

ENGINES = ("buildah", "docker")
NON_ROOT = "65532:65532"


class EngineFailed(RuntimeError):
    """A command of the engine failed; the message is what it was and the end of what it said."""


class NoEngine(RuntimeError):
    """There is nothing here that builds images; the message says what to install."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build. `secrets`: files by id, which no layer keeps; `epoch`: the time of all files, in seconds since 1970."""

    reference: str
    containerfile: Path
    arguments: Mapping[str, str]
    epoch: int
    secrets: Mapping[str, Path] = field(default_factory=dict)


class Engine(Protocol):
    name: str

    def identity(self, reference: str) -> str | None:
        """The id of an image that is here; None if it isn't."""
        ...

    def pull(self, reference: str) -> None: ...
    def make_base(self, tar: Path, reference: str, *, epoch: int) -> None:
        """An image of one layer, the given root file system."""
        ...

    def build(self, build: Build) -> None: ...
    def save(self, reference: str, archive: Path) -> None: ...
    def load(self, reference: str, archive: Path) -> None: ...
    def push(self, reference: str) -> None: ...
    def remove(self, references: Sequence[str]) -> None:
        """Make room: those images, and what broken builds have left."""
        ...

    def run(self, reference: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in the image as its user, without network and capabilities where the engine can; never raises."""
        ...


def engine(name: str = "") -> Engine:
    """The engine of that name, or the first that is there. Raises `NoEngine`."""
    if name and name not in ENGINES:
        raise NoEngine(f"ENGINE is '{name}'; it can be: {', '.join(ENGINES)}")
    for candidate in [name] if name else ENGINES:
        if shutil.which(candidate):
            return Buildah() if candidate == "buildah" else Docker()
    if name:
        package = {"docker": "docker.io"}.get(name, name)
        raise NoEngine(f"ENGINE is {name}, which is not on PATH; on Debian and Ubuntu: apt-get install {package}")
    raise NoEngine(
        "neither buildah nor docker is on PATH, so no image can be built; on Debian and Ubuntu: apt-get install buildah"
    )


class Buildah:
    """Keeps images in a store of its own in the cache, so that cleaning up never touches what else lies on the machine."""

    name = "buildah"

    def __init__(self) -> None:
        self._store = cache() / "images" / "storage"
        self._store.mkdir(parents=True, exist_ok=True)
        # One for each store: buildah notes in it which layers of its store are mounted, and forgets those of another.
        store = hashlib.sha256(str(self._store.resolve()).encode()).hexdigest()[:12]
        run_root = Path(tempfile.gettempdir()) / f"trainwright-images-{os.getuid()}-{store}"
        self._buildah = ["buildah", "--root", str(self._store), "--runroot", str(run_root)]
        self._isolation = os.environ.get("BUILDAH_ISOLATION", "chroot")

    def identity(self, reference: str) -> str | None:
        done = _try([*self._buildah, "images", "--quiet", "--no-trunc", "--filter", f"reference={reference}"])
        return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None

    def pull(self, reference: str) -> None:
        _run([*self._buildah, "pull", "--quiet", reference])

    def make_base(self, tar: Path, reference: str, *, epoch: int) -> None:
        file = tar.with_suffix(".Containerfile")
        file.write_text(f"FROM scratch\nADD {tar.name} /\n")
        options = ["--quiet", "--format", "oci", "--timestamp", str(epoch), "--file", str(file), "--tag", reference]
        _run([*self._buildah, "build", *options, str(tar.parent)])

    def build(self, build: Build) -> None:
        wheels = cache() / "wheels"
        uv_cache = Path(os.environ.get("UV_CACHE_DIR") or cache().parent / "uv")
        lent = {uv_cache: "/var/cache/uv", wheels: "/var/cache/trainwright/wheels"}
        for folder in lent:
            folder.mkdir(parents=True, exist_ok=True)
        _run(
            [*self._buildah, "build", "--isolation", self._isolation, "--layers=false", "--format", "oci", "--pull-never"]
            + ["--timestamp", str(build.epoch), "--file", str(build.containerfile), "--tag", build.reference]
            + [word for name, value in build.arguments.items() for word in ("--build-arg", f"{name}={value}")]
            + [word for name, path in build.secrets.items() for word in ("--secret", f"id={name},src={path}")]
            + [word for here, there in lent.items() for word in ("--volume", f"{here}:{there}")]
            + [str(ROOT)]
        )

    def save(self, reference: str, archive: Path) -> None:
        # Compressed: smaller, and as quick to import, because there is less to read.
        _run([*self._buildah, "push", "--quiet", reference, f"oci-archive:{archive}:{reference}"])

    def load(self, reference: str, archive: Path) -> None:
        loaded = _run([*self._buildah, "pull", "--quiet", f"oci-archive:{archive}"]).stdout.split()[-1]
        _run([*self._buildah, "tag", loaded, reference])

    def push(self, reference: str) -> None:
        _run([*self._buildah, "push", reference, f"docker://{reference}"])

    def remove(self, references: Sequence[str]) -> None:
        _try([*self._buildah, "rm", "--all"])  # of a build that was killed
        if references:
            _try([*self._buildah, "rmi", *references])
        _try([*self._buildah, "rmi", "--prune"])

    def run(self, reference: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        container = _run([*self._buildah, "from", "--pull-never", reference]).stdout.split()[-1]
        try:
            return _try(
                [
                    *self._buildah,
                    "run",
                    "--isolation",
                    self._isolation,
                    "--cap-drop",
                    "all",
                    "--user",
                    NON_ROOT,
                    container,
                    "--",
                    *command,
                ]
            )
        finally:
            _try([*self._buildah, "rm", container])


class Docker:
    """Needs BuildKit (docker 23, or 18.09 with DOCKER_BUILDKIT=1) for mounts and secrets."""

    name = "docker"

    def identity(self, reference: str) -> str | None:
        done = _try(["docker", "image", "inspect", "--format", "{{.Id}}", reference])
        return done.stdout.strip() if done.returncode == 0 else None

    def pull(self, reference: str) -> None:
        _run(["docker", "pull", "--quiet", reference])

    def make_base(self, tar: Path, reference: str, *, epoch: int) -> None:  # noqa: ARG002 - docker notes the hour of an import
        _run(["docker", "import", str(tar), reference])

    def build(self, build: Build) -> None:
        arguments = {**build.arguments, "SOURCE_DATE_EPOCH": str(build.epoch)}
        _run(
            ["docker", "build", "--file", str(build.containerfile), "--tag", build.reference]
            + [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
            + [word for name, path in build.secrets.items() for word in ("--secret", f"id={name},src={path}")]
            + [str(ROOT)],
            environment={"DOCKER_BUILDKIT": "1"},
        )

    def save(self, reference: str, archive: Path) -> None:
        _run(["docker", "save", "--output", str(archive), reference])

    def load(self, reference: str, archive: Path) -> None:  # noqa: ARG002 - the archive says it
        _run(["docker", "load", "--quiet", "--input", str(archive)])

    def push(self, reference: str) -> None:
        _run(["docker", "push", "--quiet", reference])

    def remove(self, references: Sequence[str]) -> None:
        """Nothing: the images are the user's, in the user's own store."""

    def run(self, reference: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        confined = ["--network", "none", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp", "--user", NON_ROOT]  # noqa: S108 - of the image
        return _try(["docker", "run", "--rm", *confined, "--entrypoint", command[0], reference, *command[1:]])


def _try(command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **(environment or {})})


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = _try(command, environment)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-30:]
        shown = shlex.join(command)
        raise EngineFailed(f"{shown[:300]}{' …' if len(shown) > 300 else ''} ended with {done.returncode}:\n" + "\n".join(said))
    if os.environ.get("TRAINWRIGHT_VERBOSE"):
        sys.stderr.write(done.stdout + done.stderr)
    return done

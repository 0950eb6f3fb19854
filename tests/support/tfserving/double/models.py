"""Which versions are loaded: directories are polled, the policy chooses, states are kept; a label stands on a loaded version.

A new version is loaded before an old one goes. What has ended stays listed, with why.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from double.status import Code, Refused, invalid


class State(enum.IntEnum):
    """As `GetModelStatusResponse` has them."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A SavedModel in memory. `signatures`: SignatureDef by name."""

    signatures: dict[str, Any]
    functions: Any


@dataclasses.dataclass
class Version:
    """One version of a model, and the task that loads or unloads it."""

    state: State = State.START
    error: str = ""
    code: int = 0
    loaded: Loaded | None = None
    running: int = 0


@dataclasses.dataclass(frozen=True)
class Settings:
    """Seconds between polls, between tries to load, and how many more of those there are."""

    poll: float = 1.0
    retries: int = 5
    retry_wait: float = 60.0
    labels_of_unavailable: bool = False


def load(path: Path) -> Loaded:
    """Raises what TensorFlow does, and OSError."""
    file = path / "saved_model.pb"
    if not file.is_file():
        raise FileNotFoundError(f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}")
    described = SavedModel.FromString(file.read_bytes())
    graph = next(one for one in described.meta_graphs if "serve" in one.meta_info_def.tags)
    return Loaded(dict(graph.signature_def), tf.saved_model.load(str(path)).signatures)


class Models:
    """All models of the server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._configs: dict[str, Any] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.load_attempts: dict[tuple[str, str], int] = {}

    # --- configuration ------------------------------------------------------------------------------------------------

    async def reload(self, config: Any) -> None:
        """Replace the whole configuration, a `ModelConfigList`. Raises Refused, and keeps what there was then."""
        names = [one.name for one in config.config]
        for one in config.config:
            if not one.name or not one.base_path:
                raise invalid("Illegal setting: a model needs a name and a base_path")
            if one.model_platform and one.model_platform != "tensorflow":
                raise Refused(Code.FAILED_PRECONDITION, f"PlatformConfigMap has no entry for platform {one.model_platform}")
        if len(set(names)) != len(names):
            raise invalid(f"Illegal to list model {max(names, key=names.count)} multiple times in config list")
        labels = {one.name: dict(one.version_labels) for one in config.config}
        self._check_labels(labels)
        self._labels = labels
        new = set(names) - set(self._configs)
        self._configs = {one.name: one for one in config.config}
        self._wake.set()
        # For new models it waits, not for new versions of those there were.
        await self.until_available(new)

    def _check_labels(self, labels: dict[str, dict[str, int]]) -> None:
        for name, of_model in labels.items():
            for label, version in of_model.items():
                before = self._labels.get(name, {}).get(label)
                if self._settings.labels_of_unavailable and before in (None, version):
                    continue
                if self._state(name, version) is not State.AVAILABLE:
                    raise Refused(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {name}, "
                        "which is not currently available for inference",
                    )

    def _state(self, name: str, version: int) -> State | None:
        there = self._versions.get(name, {}).get(version)
        return there.state if there else None

    async def until_available(self, names: Iterable[str]) -> None:
        """Return when each of these has a version that answers. Raises Refused when all that it has have failed."""
        for name in names:
            while True:
                states = [one.state for one in self._versions.get(name, {}).values()]
                if State.AVAILABLE in states:
                    break
                failed = [one for one in self._versions.get(name, {}).values() if one.state is State.END and one.error]
                if failed and len(failed) == len(states):
                    raise Refused(
                        Code.UNKNOWN, f"1 model(s) did not become available: {{{{name: {name}}} due to error: {failed[0].error}}}"
                    )
                await asyncio.sleep(0.02)

    # --- versions -----------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Load and unload, for ever."""
        while True:
            for name in {*self._configs, *self._versions}:
                self._look_at(name)
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), self._settings.poll)
            except TimeoutError:
                continue

    def _look_at(self, name: str) -> None:
        wanted = self._wanted(name)
        versions = self._versions.setdefault(name, {})
        for number in wanted:
            there = versions.get(number)
            if there is None or (there.state is State.END and not there.error):
                versions[number] = Version()
                self._start(self._load(name, number, versions[number]))
        answering = any(versions[number].state is State.AVAILABLE for number in wanted)
        for number, version in versions.items():
            # One that answers stays until another does, also when that one can't be loaded.
            if number not in wanted and version.state is State.AVAILABLE and (answering or not wanted):
                version.state = State.UNLOADING
                self._start(self._unload(version))

    def _wanted(self, name: str) -> list[int]:
        config = self._configs.get(name)
        if config is None:
            return []
        try:
            there = sorted({int(one.name) for one in Path(config.base_path).iterdir() if one.name.isdigit() and one.is_dir()})
        except OSError as error:
            sys.stderr.write(f"FileSystemStoragePathSource encountered a filesystem access error: {error}\n")
            return []
        policy = config.model_version_policy
        match policy.WhichOneof("policy_choice"):
            case "all":
                return there
            case "specific":
                return [number for number in policy.specific.versions if number in there]
            case _:
                return there[-(policy.latest.num_versions or 1) :]

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, name: str, number: int, version: Version) -> None:
        version.state = State.LOADING
        path = Path(self._configs[name].base_path) / str(number)
        for attempt in range(self._settings.retries + 1):
            try:
                version.loaded = await asyncio.to_thread(load, path)
            except Exception as error:
                self._count(path, "fail")
                sys.stderr.write(f"Loading servable: {{name: {name} version: {number}}} failed: {error}\n")
                version.error, version.code = str(error), Code.NOT_FOUND.number
                if attempt < self._settings.retries and number in self._wanted(name):
                    await asyncio.sleep(self._settings.retry_wait)
            else:
                self._count(path, "success")
                version.error, version.code, version.state = "", 0, State.AVAILABLE
                sys.stderr.write(f"Successfully loaded servable version {{name: {name} version: {number}}}\n")
                self._wake.set()
                return
        version.state = State.END
        self._wake.set()

    def _count(self, path: Path, status: str) -> None:
        self.load_attempts[str(path), status] = self.load_attempts.get((str(path), status), 0) + 1

    async def _unload(self, version: Version) -> None:
        while version.running:
            await asyncio.sleep(0.01)
        version.loaded, version.state = None, State.END

    # --- requests -----------------------------------------------------------------------------------------------------

    def find(self, name: str, number: int | None, label: str | None) -> tuple[int, Version]:
        """The version that a request is for; of those that answer. Raises Refused."""
        number = self.labelled(name, label) if label is not None else number
        versions = self._versions.get(name, {})
        if number is None:
            answering = [one for one, version in versions.items() if version.state is State.AVAILABLE]
            if not answering:
                raise Refused(Code.NOT_FOUND, f"Servable not found for request: Latest({name})")
            number = max(answering)
        if number not in versions or versions[number].state is not State.AVAILABLE:
            raise Refused(Code.NOT_FOUND, f"Servable not found for request: Specific({name}, {number})")
        return number, versions[number]

    def labelled(self, name: str, label: str) -> int:
        """The version that a label stands on. Raises Refused."""
        try:
            return self._labels[name][label]
        except KeyError:
            raise invalid(f"Unrecognized servable version label: {label}") from None

    def status(self, name: str, number: int | None, label: str | None) -> list[tuple[int, Version]]:
        """Each version that there is or was, the newest first. Raises Refused."""
        number = self.labelled(name, label) if label is not None else number
        versions = self._versions.get(name, {})
        if number is not None:
            if number not in versions:
                raise Refused(Code.NOT_FOUND, f"Could not find version {number} of model {name}")
            return [(number, versions[number])]
        if not versions:
            raise Refused(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return sorted(versions.items(), reverse=True)

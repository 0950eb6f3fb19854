"""What a worker brings from object storage before it starts: the newest complete checkpoint, the same for the whole gang.

Worker 0 chooses, fetches and announces it; the others fetch what was announced. So a checkpoint that an attempt which is over
still sends from a node that has lost its network can't give two workers two different beginnings.
"""

from __future__ import annotations

import time
from pathlib import Path

from trainwright_runtime.checkpoint import NoUsableCheckpoint
from trainwright_runtime.environment import InvalidEnvironment, RankEnvironment
from trainwright_runtime.exits import say
from trainwright_runtime.remote import CHECKPOINTS, RemoteWorkspace, StorageError
from trainwright_runtime.sealed import Damaged, Incomplete

POLL_SECONDS = 1.0


def restore(remote: RemoteWorkspace, environment: RankEnvironment) -> None:
    """Fill `checkpoints/` of this worker's empty workspace. Raises StorageError, NoUsableCheckpoint or Damaged."""
    if environment.workspace is None:
        raise InvalidEnvironment("TRAINWRIGHT_WORKSPACE is not set: there is no place to fetch into")
    if environment.worker_index == 0:
        remote.announce(_bring_newest(remote, environment, environment.workspace))
    elif (name := _wait(remote)) is not None:
        _bring(remote, environment.workspace, name)
    if not _afresh(environment):
        _bring_loose(remote, environment.workspace)


def _afresh(environment: RankEnvironment) -> bool:
    return environment.checkpoint.resume == "Never" and environment.attempt == 1


def _bring_newest(remote: RemoteWorkspace, environment: RankEnvironment, workspace: Path) -> str | None:
    policy = environment.checkpoint
    if _afresh(environment):
        return None
    damaged: list[str] = []
    for step in remote.steps():
        name = f"step-{step}"
        try:
            if policy.resume == "Never" and remote.seal(f"{CHECKPOINTS}/{name}").get("uid") != environment.uid:
                continue
            _bring(remote, workspace, name)
        except Incomplete:
            say(f"{name} in {remote.uri} was never completed, and is left out")
        except Damaged as fault:
            damaged.append(f"{name}: {fault}")
            say(f"checkpoint {name} in {remote.uri} is damaged: {fault}")
        else:
            return name
    if damaged:
        raise NoUsableCheckpoint(f"every checkpoint in {remote.uri} is damaged ({'; '.join(damaged)})")
    return None


def _wait(remote: RemoteWorkspace) -> str | None:
    told = False
    while (announced := remote.announced()) is None:
        if not told:
            say(f"waiting for worker 0 to choose a checkpoint in {remote.uri}")
            told = True
        time.sleep(POLL_SECONDS)
    name = announced.get("checkpoint")
    return str(name) if name else None


def _bring(remote: RemoteWorkspace, workspace: Path, name: str) -> None:
    target = workspace / CHECKPOINTS / name
    if target.exists():
        return
    began = time.monotonic()
    manifest = remote.get_sealed(f"{CHECKPOINTS}/{name}", target)
    size = sum(int(file["bytes"]) for file in manifest["files"].values())
    say(f"checkpoint {name}: {size / 2**20:.1f} MiB from {remote.uri} in {time.monotonic() - began:.1f} s")


def _bring_loose(remote: RemoteWorkspace, workspace: Path) -> None:
    """What a program of the user's keeps beside our checkpoints, by itself."""
    for name in remote.files(CHECKPOINTS):
        _, first, *below = name.split("/")
        if below and first.startswith("step-"):
            continue
        target = workspace / name
        if not target.resolve().is_relative_to(workspace.resolve()):
            raise StorageError(f"{remote.uri}: {name!r} would lie outside of the workspace", permanent=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        remote.get_file(name, target)

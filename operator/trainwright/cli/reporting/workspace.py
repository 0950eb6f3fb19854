"""What a job's workspace tells of it, where this machine can read it: TensorBoard's events, checkpoints' manifests, a report.

The page takes from here what Prometheus doesn't have; by itself it makes half of the pictures.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainwright.api.names import claim_name, remote_folder
from trainwright.cli.reporting.facts import Facts
from trainwright.cli.reporting.pictures import Point
from trainwright.cli.reporting.tensorboard import Scalar, scalars
from trainwright.cluster.port import CLAIMS, VOLUMES, Cluster, ClusterError, Object

SOURCE = "workspace"
EVENTS, CHECKPOINTS, REPORT = Path("logs") / "tensorboard", Path("checkpoints"), Path("artifacts") / "report.json"
POINTS = 400
"""Of a line: of more, every so-manieth is taken."""
HELP = {
    "Steps done": "As the rank wrote that writes events. A fall is a failure: the gang went on from the checkpoint before it.",
    "Step time": "Mean of the steps between two records.",
    "Training loss": "As the rank wrote that writes events.",
    "Learning rate and gradient norm": "A norm that grows for long is a training that diverges.",
    "Metrics": "What the training reported beside its loss.",
    "Size": "Bytes of the checkpoints that are still there.",
}
"""Pictures that a workspace can make, by title: how to read them."""
SIDE = ("loss", "learning_rate", "gradient_norm")


@dataclass(frozen=True, kw_only=True)
class Found:
    """`lines`: by title of the picture. `told`: the trainer's own sentence. `holds`: what was read, in words."""

    lines: Mapping[str, Mapping[str, Sequence[Point]]] = field(default_factory=dict)
    told: str = ""
    holds: str = ""


async def place(cluster: Cluster, raw: Object) -> tuple[Path | None, str]:
    """The job's workspace as a directory of this machine; or None, and why it is none."""
    metadata, kept = raw["metadata"], raw["spec"].get("workspace") or {}
    namespace, name = metadata.get("namespace", "default"), metadata["name"]
    if uri := kept.get("uri"):
        store = remote_folder(uri, namespace, name)
        return None, f"its workspace is in object storage ({store}); fetch it, and name the folder with --workspace"
    claim = kept.get("claim") or claim_name(name)
    try:
        bound = (await cluster.get(CLAIMS, claim, namespace))["spec"].get("volumeName")
        if not bound:
            return None, f"its workspace, the claim {claim}, has no volume yet"
        path = ((await cluster.get(VOLUMES, bound, None))["spec"].get("hostPath") or {}).get("path")
    except ClusterError as error:
        return None, f"its workspace, the claim {claim}, can't be looked up ({error})"
    # On the twin a volume is a directory of this machine. The path of another machine's may exist here by chance.
    folder = Path(path) / (name if kept.get("claim") else "") if path else None
    if folder is not None and folder.is_dir() and any((folder / one).exists() for one in (EVENTS, CHECKPOINTS, REPORT.parent)):
        return folder, ""
    if folder is not None and folder.is_dir():
        return None, "nothing has been written into its workspace yet"
    why = f"its workspace, the claim {claim}, is on a disk of the cluster that this machine does not see"
    return None, f"{why}; mount or copy it, and name the folder with --workspace"


def found(folder: Path, facts: Facts) -> Found:
    """All that a report can use of a workspace; of the time since the job was created."""
    told = [one for one in scalars(folder / EVENTS) if one.time >= facts.created - 1]
    saved = _checkpoints(folder / CHECKPOINTS, facts.created)
    by_tag: dict[str, list[Scalar]] = {}
    for one in told:
        by_tag.setdefault(one.tag, []).append(one)
    lines: dict[str, dict[str, Sequence[Point]]] = {}

    def add(title: str, name: str, points: Sequence[Point]) -> None:
        if points:
            lines.setdefault(title, {})[name] = _thinned(points)

    steps = _steps(told)
    add("Steps done", "step", steps)
    add("Steps done", "checkpoints that are kept", [(at, step) for at, step, _ in saved])
    add("Step time", "mean between two records", _step_times(steps))
    add("Training loss", "loss", _line(by_tag.get("loss", [])))
    for tag, name in (("learning_rate", "learning rate"), ("gradient_norm", "gradient norm")):
        add("Learning rate and gradient norm", name, _line(by_tag.get(tag, [])))
    for tag in sorted(by_tag):
        if tag not in SIDE:
            add("Metrics", tag, _line(by_tag[tag]))
    add("Size", "bytes", [(at, size) for at, _, size in saved])
    holds = [f"{len(told):,} values of TensorBoard's events"] if told else []
    holds += [f"the manifests of {len(saved)} checkpoint{'s' * (len(saved) != 1)}"] if saved else []
    summary = _summary(folder / REPORT)
    holds += ["the trainer's report"] if summary else []
    return Found(lines=lines, told=summary, holds=", ".join(holds))


def _line(values: Sequence[Scalar]) -> list[Point]:
    return [(one.time, one.value) for one in values if one.value == one.value and abs(one.value) != float("inf")]


def _steps(told: Sequence[Scalar]) -> list[Point]:
    """The step of each record, once."""
    found: list[Point] = []
    for one in told:
        if not found or found[-1][1] != one.step:
            found.append((one.time, float(one.step)))
    return found


def _step_times(steps: Sequence[Point]) -> list[Point]:
    """Mean time of the steps between two records; none over a restart, where the step falls back."""
    pairs = itertools.pairwise(steps)
    return [(at, (at - before) / (step - earlier)) for (before, earlier), (at, step) in pairs if step > earlier and at > before]


def _checkpoints(folder: Path, since: float) -> list[tuple[float, float, float]]:
    """Time, step and bytes of the complete checkpoints that are there, in order of time."""
    found = []
    for path in folder.glob("step-*/manifest.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            manifest: Any = json.loads(path.read_text())
            size = sum(one["bytes"] for one in manifest["files"].values())
            if manifest["time"] >= since:
                found.append((float(manifest["time"]), float(manifest["step"]), float(size)))
    return sorted(found)


def _summary(path: Path) -> str:
    try:
        report: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return ""
    said = report.get("summary") if isinstance(report, dict) else None
    return said if isinstance(said, str) else ""


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    stride = -(-len(points) // POINTS)
    return [*points[:-1:stride], points[-1]] if stride > 1 else points

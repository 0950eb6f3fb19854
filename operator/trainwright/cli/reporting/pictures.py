"""The pictures of a report: those of the dashboard "Trainwright / Job", with what Prometheus is asked for each.

Workers' own series are asked, not the recorded ones: a Prometheus without our rules will do, and a job of a minute is not
smoothed over five. All are aggregated to what they are named after, since an operator that was started anew makes series of its
own of the same thing. A test holds titles against the dashboard's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Point = tuple[float, float]
"""Seconds since the epoch, and a value."""
Lines = Mapping[str, Sequence[Point]]
"""Points by the name of their line."""


class Unit(StrEnum):
    NUMBER = "number"
    SECONDS = "seconds"
    SHARE = "share"
    BYTES = "bytes"


class Section(StrEnum):
    PROGRESS = "How it went"
    LEARNING = "What it learned"
    SPEED = "How fast"
    CHECKPOINTS = "Checkpoints"
    GPUS = "GPUs"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One picture. `queries`: expression and legend of each; `$of` stands for the job's labels, `$window` for the time to take
    rates over, `$long` for one of what happens now and then. `absent`: why it may not be there. `rare`: shown where there is
    something, and not missed otherwise. `rate`: its legend tells medians, since a rate falls when the workers end.
    """

    section: Section
    title: str
    help: str
    queries: tuple[tuple[str, str], ...]
    unit: Unit = Unit.NUMBER
    stacked: bool = False
    log: bool = False
    highest: float | None = None
    absent: str = "the workers did not tell"
    rare: bool = False
    rate: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What was found for one: lines and where they are from (`source`), or `missing`, why there are none."""

    wanted: Wanted
    lines: Lines
    source: str = ""
    missing: str = ""


RANK = "rank {rank}"
GPU = "worker {worker}, GPU {gpu}"
NO_LOSS = "the training reported none"
NO_CHECKPOINT = "no checkpoint was written"


def _rate(name: str, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate(trainwright_{name}{{$of}}[$window]))"


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, {_rate('step_seconds_bucket', 'le')})"


def _per_checkpoint(name: str) -> str:
    return f"{_rate(name)} / ({_rate('checkpoints_total')} > 0)".replace("$window", "$long")


WANTED = (
    Wanted(
        section=Section.PROGRESS,
        title="Steps done",
        help="A fall is a failure: the gang went on from the checkpoint before it.",
        queries=(("max(trainwright_job_step{$of})", "step"), ("max(trainwright_job_checkpoint_step{$of})", "newest checkpoint")),
        absent="the training reported no steps",
    ),
    Wanted(
        section=Section.PROGRESS,
        title="Throughput",
        help="Samples that the whole gang trained on in a second.",
        queries=(("max(rate(trainwright_samples_total{$of}[$window]))", "samples a second"),),
        rate=True,
    ),
    Wanted(
        section=Section.LEARNING,
        title="Training loss",
        help="By rank; with a loss over the global batch they lie upon each other.",
        queries=(("max by (rank) (trainwright_loss{$of})", RANK),),
        log=True,
        absent=NO_LOSS,
    ),
    Wanted(
        section=Section.LEARNING,
        title="Metrics",
        help="What the training reported beside its loss.",
        queries=(('max by (name) (trainwright_job_metric{$of, name!~"loss|learning_rate|gradient_norm"})', "{name}"),),
        absent="the training reported none beside its loss",
    ),
    Wanted(
        section=Section.LEARNING,
        title="Learning rate and gradient norm",
        help="A norm that grows for long is a training that diverges.",
        queries=(
            ("max(trainwright_learning_rate{$of})", "learning rate"),
            ("max(trainwright_gradient_norm{$of})", "gradient norm"),
        ),
        log=True,
        absent="the training reported neither",
    ),
    Wanted(
        section=Section.LEARNING,
        title="Losses that are not finite",
        help="Times that a loss was NaN or infinite when it was read.",
        queries=(("max by (rank) (trainwright_losses_not_finite_total{$of}) > 0", RANK),),
        rare=True,
    ),
    Wanted(
        section=Section.SPEED,
        title="Step time",
        help="From one step to the next, over all ranks: median (p50) and slowest hundredth (p99).",
        queries=((_quantile(0.5), "p50"), (_quantile(0.99), "p99")),
        unit=Unit.SECONDS,
        rate=True,
    ),
    Wanted(
        section=Section.SPEED,
        title="Where a step's time goes",
        help="Shares of the steps' time, over all ranks. Computing includes the exchange of gradients.",
        queries=(
            (f"{_rate('compute_seconds_total')} / {_rate('step_seconds_sum')}", "computing"),
            (f"{_rate('data_wait_seconds_total')} / {_rate('step_seconds_sum')}", "waiting for data"),
            (f"{_rate('checkpoint_blocked_seconds_total')} / {_rate('step_seconds_sum')}", "blocked by checkpoints"),
        ),
        unit=Unit.SHARE,
        stacked=True,
        highest=1,
        rate=True,
    ),
    Wanted(
        section=Section.SPEED,
        title="Step time by rank",
        help="Mean. Ranks that exchange gradients all take as long as their slowest does.",
        queries=((f"{_rate('step_seconds_sum', 'rank')} / {_rate('step_seconds_count', 'rank')}", RANK),),
        unit=Unit.SECONDS,
        rate=True,
    ),
    Wanted(
        section=Section.SPEED,
        title="A rank's own time of a step",
        help="Without waiting for others. A rank above the others slows all of them down.",
        queries=(("max by (rank) (trainwright_own_step_seconds{$of})", RANK),),
        unit=Unit.SECONDS,
        absent="only torch with DDP tells it",
    ),
    Wanted(
        section=Section.SPEED,
        title="Waiting for data by rank",
        help="Share of a rank's time.",
        queries=((_rate("data_wait_seconds_total", "rank"), RANK),),
        unit=Unit.SHARE,
        rate=True,
    ),
    Wanted(
        section=Section.CHECKPOINTS,
        title="Blocked by a checkpoint",
        help="Seconds that training stood still for each checkpoint, and that it was written beside training.",
        queries=(
            (_per_checkpoint("checkpoint_blocked_seconds_total"), "blocked"),
            (_per_checkpoint("checkpoint_write_seconds_total"), "written beside training"),
        ),
        unit=Unit.SECONDS,
        absent=NO_CHECKPOINT,
        rate=True,
    ),
    Wanted(
        section=Section.CHECKPOINTS,
        title="Size",
        help="Bytes of a checkpoint.",
        queries=((_per_checkpoint("checkpoint_written_bytes_total"), "bytes"),),
        unit=Unit.BYTES,
        absent=NO_CHECKPOINT,
        rate=True,
    ),
    Wanted(
        section=Section.CHECKPOINTS,
        title="Failures",
        help="Checkpoints that could not be written; those before them are intact.",
        queries=(("sum(trainwright_checkpoint_failures_total{$of}) > 0", "failures"),),
        rare=True,
    ),
    Wanted(
        section=Section.GPUS,
        title="Utilization",
        help="Share of time in which a GPU was busy, by NVML. A GPU that waits for others is busy too.",
        queries=(("max by (worker, gpu) (trainwright_gpu_utilization_ratio{$of})", GPU),),
        unit=Unit.SHARE,
        highest=1,
        absent="no worker measured a GPU (NVML tells of real ones only)",
    ),
    Wanted(
        section=Section.GPUS,
        title="Memory",
        help="Share of a GPU's memory in use.",
        queries=(("max by (worker, gpu) (trainwright_gpu_memory_used_bytes{$of} / trainwright_gpu_memory_bytes{$of})", GPU),),
        unit=Unit.SHARE,
        highest=1,
        absent="no worker measured a GPU (NVML tells of real ones only)",
    ),
)

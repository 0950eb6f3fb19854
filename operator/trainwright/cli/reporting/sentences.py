"""The answer in words: how a job went, and why it was slow. Pure; the page, and nothing else, shows what this says."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from trainwright.api.status import Phase
from trainwright.cli.reporting.facts import Facts, who_failed
from trainwright.observe.times import seconds

NAMED = 3
"""Losses and metrics that are named; the pictures show the others."""
LEAST_SHARE = 0.01
"""Of the job's time: what took less isn't worth a reader's time."""
STRAGGLES, STRAGGLER_SHARE = 1.5, 0.03
"""A straggler needs so many times as long as the other ranks (as in the alert of that name), and that share of a step more."""
REASON_LENGTH = 280
SIDE_METRICS = ("learning_rate", "gradient_norm")


class Kind(StrEnum):
    """What time went into; the values are names in two or three words."""

    COMPUTING = "computing"
    PRODUCTIVE = "productive"
    BETWEEN = "between steps"
    STRAGGLER = "waiting for the slowest rank"
    DATA = "waiting for data"
    CHECKPOINTS = "standing still for checkpoints"
    STARTUP = "starting processes"
    STARTING = "starting pods"
    QUEUED = "waiting for room"
    LOST = "failures"
    SUSPENDED = "suspended"


BEFORE = (Kind.LOST, Kind.QUEUED, Kind.STARTING)
"""What the operator doesn't count as productive."""
WITHIN = (Kind.STARTUP, Kind.DATA, Kind.CHECKPOINTS, Kind.STRAGGLER)
"""What of the productive time isn't computing."""


def verdict(facts: Facts) -> str:
    """One line: what a reader should know if it is the only one that is read."""
    status = facts.status
    if facts.phase is None:
        return "No operator has looked at this job yet."
    if facts.phase is Phase.FAILED:
        last = status.restarts.last
        why = who_failed(last) if last else _short(status.reason or "it says no reason")
        return f"Failed after {length(facts.length)}: {why}."
    if facts.phase is Phase.QUEUED:
        return f"Has been waiting for {length(_in_phase(facts))}."
    if facts.phase is Phase.SUSPENDED:
        return f"Suspended for {length(_in_phase(facts))}."
    found = losses(facts)
    largest = f" Largest loss: {_called(found[0][0], facts)}, {length(found[0][1])}." if found else ""
    if facts.phase is Phase.SUCCEEDED:
        return f"Succeeded in {length(facts.length)}." + (largest or " Nothing slowed it down that is worth a word.")
    if facts.phase is Phase.RUNNING:
        return f"Running, {length(facts.length)} after it was submitted.{largest}"
    return f"{facts.phase.value} for {length(_in_phase(facts))}.{largest}"


def sentences(facts: Facts) -> list[str]:
    """A few sentences, the most important first."""
    parts = [_why(facts), _how_far(facts), _not_finite(facts), _productive(facts), _startup(facts), _straggler(facts)]
    parts += [_steps(facts), _checkpoint(facts), _metrics(facts), _price(facts)]
    return [part for part in parts if part]


def account(facts: Facts) -> dict[Kind, float]:
    """Where the job's time went, in seconds: the operator's account, its productive part divided by what workers measured."""
    spent, steps = facts.spent, facts.steps
    found = {
        Kind.QUEUED: spent.queued_seconds,
        Kind.STARTING: spent.starting_seconds,
        Kind.LOST: spent.lost_seconds,
        Kind.SUSPENDED: spent.suspended_seconds,
    }
    if steps.seconds is None or steps.mean is None:
        return {Kind.PRODUCTIVE: spent.productive_seconds, **found}
    startup = min(sum(steps.startups), spent.productive_seconds)
    stepping = min(steps.seconds, spent.productive_seconds - startup)
    within = {Kind.DATA: (steps.data_share or 0) * stepping, Kind.CHECKPOINTS: (steps.checkpoint_share or 0) * stepping}
    if straggles(facts) and steps.straggler:
        within[Kind.STRAGGLER] = min(1.0, steps.straggler.extra / steps.mean) * stepping
    return {
        Kind.COMPUTING: max(0.0, stepping - sum(within.values())),
        Kind.BETWEEN: spent.productive_seconds - startup - stepping,
        Kind.STARTUP: startup,
        **within,
        **found,
    }


def losses(facts: Facts, kinds: Sequence[Kind] = (*BEFORE, *WITHIN)) -> list[tuple[Kind, float]]:
    """What took time beside computing, the largest first; without what is too small to matter."""
    least = max(1.0, LEAST_SHARE * facts.length)
    found = [(kind, amount) for kind, amount in account(facts).items() if kind in kinds and amount >= least]
    return sorted(found, key=lambda one: -one[1])


def straggles(facts: Facts) -> bool:
    """Whether one rank needs so much longer than the others that it is worth a word."""
    slow, mean = facts.steps.straggler, facts.steps.mean
    return bool(slow and mean and slow.ratio >= STRAGGLES and slow.extra >= STRAGGLER_SHARE * mean)


def _why(facts: Facts) -> str:
    """Why it failed or waits."""
    status = facts.status
    if facts.phase is Phase.FAILED and status.reason:
        return f"{_short(status.reason)}."
    if facts.phase in (Phase.QUEUED, Phase.STARTING, Phase.RESTARTING) and status.reason:
        said = _short(status.reason)
        # A name stays as it is.
        return f"{said[0].upper() if said.partition(' ')[0].isalpha() else said[0]}{said[1:]}."
    return ""


def _how_far(facts: Facts) -> str:
    progress = facts.status.progress
    if facts.phase is Phase.SUCCEEDED or progress is None or progress.step is None:
        return ""
    of = f" of {progress.total_steps:,}" if progress.total_steps else ""
    percent = f" ({progress.percent:.0f}%)" if progress.percent is not None else ""
    left = f", about {length(progress.eta_seconds)} to go" if progress.eta_seconds and facts.phase is Phase.RUNNING else ""
    verb = "are done" if not facts.status.finished else "were done"
    return f"{progress.step:,}{of} steps{percent} {verb}{left}."


def _productive(facts: Facts) -> str:
    if facts.goodput is None or not facts.ran:
        return ""
    verb = "was" if facts.status.finished else "has been"
    share = f"{facts.goodput:.0f}% of its time {verb} productive"
    went = {
        Kind.LOST: f"{'was' if facts.spent.lost_seconds == 1 else 'were'} lost {_to_restarts(facts)}",
        Kind.STARTING: "went into starting pods",
        Kind.QUEUED: "went into waiting for room on nodes",
    }
    found = [f"{length(amount)} {went[kind]}" for kind, amount in losses(facts, BEFORE)]
    return f"{share}: {_listed(found)}." if found else f"{share}."


def _startup(facts: Facts) -> str:
    """What the operator counts as productive although nothing is trained yet."""
    spent = account(facts).get(Kind.STARTUP, 0.0)
    if spent < max(1.0, LEAST_SHARE * facts.length):
        return ""
    attempts = len(facts.steps.startups)
    parts = facts.steps.startup
    most = f", most of it for {max(parts, key=lambda part: parts[part])}" if parts else ""
    each = f" in {attempts} attempts" if attempts > 1 else ""
    return f"Of its productive time, {length(spent)} passed{each} before the first step{most}."


def _steps(facts: Facts) -> str:
    data, saved = facts.steps.data_share, facts.steps.checkpoint_share
    parts = [f"{percent(data)} of their time for data"] if data is not None else []
    if saved is not None:
        parts.append(f"{percent(saved)} for checkpoints" if parts else f"{percent(saved)} of their time for checkpoints")
    return f"Steps waited {_listed(parts)}." if parts else ""


def _straggler(facts: Facts) -> str:
    slow = facts.steps.straggler
    if slow is None or not straggles(facts):
        return ""
    return (
        f"Rank {slow.rank} needed {slow.ratio:.1f} times as long for its part of a step as the others, "
        f"which waited {length(slow.extra)} for it in every step."
    )


def _not_finite(facts: Facts) -> str:
    count = facts.steps.losses_not_finite
    return f"The loss was NaN or infinite {count} time{'s' * (count != 1)}: from then on nothing was learned." if count else ""


def _checkpoint(facts: Facts) -> str:
    saved = facts.status.checkpoint
    if facts.phase is not Phase.RUNNING:
        return ""
    if saved is None:
        return "There is no checkpoint yet: a failure now would cost all that was trained."
    at = seconds(saved.time)
    return "" if at is None else f"A failure now would cost {length(facts.now - at)} (newest checkpoint: step {saved.step:,})."


def _metrics(facts: Facts) -> str:
    values = facts.status.metrics or {}
    main = facts.main_metric
    # What was measured on data that wasn't trained on comes first.
    order = sorted(values, key=lambda name: (name != main, not name.startswith("test_"), not name.startswith("val_")))
    chosen = [name for name in order if name not in SIDE_METRICS and name != "loss"][: NAMED - 1]
    chosen += ["loss"] if "loss" in values else []
    if not chosen:
        return ""
    step = facts.status.progress.step if facts.status.progress else None
    at = f" at step {step:,}" if step is not None else ""
    return f"Last metrics{at}: {', '.join(f'{name} {number(values[name])}' for name in chosen)}."


def _price(facts: Facts) -> str:
    currency = f" {facts.steps.currency}" if facts.steps.currency else ""
    cost = f"{facts.cost:,.2f}{currency}" if facts.cost else ""
    if facts.gpu_hours:
        return f"It held {facts.gpu_hours:,.2f} GPU hours" + (f", at a price of {cost}." if cost else ".")
    return f"It has cost {cost}." if cost else ""


def _called(kind: Kind, facts: Facts) -> str:
    """What took the time, in a few words."""
    total = facts.status.restarts.total
    if kind is Kind.LOST and total:
        return "one restart" if total == 1 else f"{total} restarts"
    if kind is Kind.STRAGGLER and facts.steps.straggler:
        return f"waiting for rank {facts.steps.straggler.rank}"
    return kind.value


def _to_restarts(facts: Facts) -> str:
    restarts = facts.status.restarts
    if facts.phase is Phase.FAILED:
        # The last failure ended the job, and stands in its first line.
        return f"to {restarts.total + 1} failures" if restarts.total else "to the failure"
    if restarts.last is None or not restarts.total:
        return "to restarting"
    if restarts.total == 1:
        return f"to one restart ({who_failed(restarts.last)})"
    counts = sorted(restarts.by_cause.items(), key=lambda one: (-one[1], one[0]))
    causes = ", ".join(f"{count} × {cause}" for cause, count in counts)
    return f"to {restarts.total} restarts ({causes}; the last: {who_failed(restarts.last)})"


def _in_phase(facts: Facts) -> float:
    since = seconds(facts.status.phase_since)
    return facts.now - (facts.created if since is None else since)


def _short(text: str) -> str:
    """The first line, whole where it isn't long, without its full stop."""
    line = (text.strip().splitlines() or [""])[0].rstrip(". ")
    return line if len(line) <= REASON_LENGTH else f"{line[:REASON_LENGTH].rsplit(' ', 1)[0]} …"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def length(amount: float) -> str:
    """`40 ms`, `0.4 s`, `38 s`, `4 min 12 s`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, round(amount))
    if whole < 1 and amount > 0:
        return f"{amount:.1f} s" if amount >= 0.1 else f"{max(1, round(1000 * amount))} ms"
    parts = {"d": whole // 86400, "h": whole % 86400 // 3600, "min": whole % 3600 // 60, "s": whole % 60}
    units = list(parts)
    first = next((index for index, unit in enumerate(units) if parts[unit]), len(units) - 1)
    return " ".join(f"{parts[unit]} {unit}" for unit in units[first : first + 2] if parts[unit]) or "0 s"


def percent(share: float) -> str:
    """`4%`; `0.4%` below one, `less than 0.1%` below that."""
    if share >= 0.01 or share == 0:
        return f"{100 * share:.0f}%"
    return f"{100 * share:.1f}%" if share >= 0.001 else "less than 0.1%"


def number(value: float) -> str:
    """Four digits that matter."""
    if value == int(value) and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) <= 1 else f"{value:,.4g}"

"""Whether a version holds a step of its canary: errors, answers that are no numbers, latency, and what it predicts, beside the
live version in the same window. No data is not success: a step waits for its requests, and gives up in the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from trainwright.api.deployment_spec import Canary, CanaryStep
from trainwright.api.deployment_status import Figures
from trainwright.observe.gateway import Window

# A percentile is as good as the number of answers that lie above it.
TAIL = 10
# How far off two samples of one distribution may be.
DEVIATIONS = 4
# Below this, a difference in latency is the machine's and not the model's.
LATENCY_SLACK_SECONDS = 0.005


class Verdict(StrEnum):
    WAIT = "Wait"
    PASS = "Pass"  # noqa: S105 - no password
    FAIL = "Fail"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """`message` has the figures that decided. `seconds`: until time alone changes the verdict, None if it doesn't."""

    verdict: Verdict
    message: str
    seconds: float | None = None
    drift: float | None = None


def judge(canary: Canary, step: CanaryStep, candidate: Window | None, live: Window | None, elapsed: float) -> Judgement:
    """The verdict after `elapsed` seconds of a step; windows are None while no gateway tells of them."""
    new, old = candidate or Window(), live or Window()
    drift = distance(new.predictions, old.predictions)
    if broken := _beyond_repair(canary, step, new, old):
        return Judgement(verdict=Verdict.FAIL, message=broken, drift=drift)
    missing = _missing(canary, step, new, old, told=candidate is not None)
    left = step.hold_seconds - elapsed
    if missing:
        until_given_up = left + canary.timeout_seconds
        if until_given_up <= 0:
            message = f"{missing} after {elapsed:.0f} s: too little to judge by"
            return Judgement(verdict=Verdict.FAIL, message=message, drift=drift)
        return Judgement(verdict=Verdict.WAIT, message=missing, seconds=until_given_up, drift=drift)
    if broken := _slower(canary, new, old) or _drifted(canary, drift):
        return Judgement(verdict=Verdict.FAIL, message=broken, drift=drift)
    seen = _seen(new, old, drift)
    if left > 0:
        return Judgement(verdict=Verdict.WAIT, message=f"{seen}; {math.ceil(left)} s to go", seconds=left, drift=drift)
    return Judgement(verdict=Verdict.PASS, message=seen, drift=drift)


def figures(version: int, window: Window | None) -> Figures:
    """What status shows of a window."""
    seen = window or Window()
    latency = seen.quantile(0.99)
    return Figures(
        version=version,
        requests=seen.requests,
        error_ratio=round(seen.errors / seen.requests, 4) if seen.requests else None,
        p99_seconds=None if latency is None else round(latency, 4),
        not_finite_ratio=round(seen.not_finite / seen.requests, 4) if seen.requests else None,
    )


def distance(one: Mapping[str, int], other: Mapping[str, int]) -> float | None:
    """Jensen-Shannon distance (0 to 1) of two histograms, less what chance alone makes of so few answers.

    None where one of them is empty. Chance: of two samples of one distribution over k classes, with n and m answers, the
    divergence times 8 ln 2 / (1/n + 1/m) is about chi-squared with k - 1 degrees of freedom (its second-order expansion); its
    mean and four of its standard deviations are taken off. A distance above 0 is thus no accident.
    """
    n, m = sum(one.values()), sum(other.values())
    if not n or not m:
        return None
    classes = {name for name, count in (*one.items(), *other.items()) if count}
    divergence = 0.0
    for name in classes:
        p, q = one.get(name, 0) / n, other.get(name, 0) / m
        middle = (p + q) / 2
        divergence += sum(share * math.log2(share / middle) for share in (p, q) if share) / 2
    freedom = len(classes) - 1
    by_chance = (freedom + DEVIATIONS * math.sqrt(2 * freedom)) * (1 / n + 1 / m) / (8 * math.log(2))
    return math.sqrt(max(0.0, divergence - by_chance))


def _beyond_repair(canary: Canary, step: CanaryStep, new: Window, old: Window) -> str:
    """More bad answers than the step allows, even if all that are still to come are good."""
    asked = max(step.min_requests, new.requests)
    for bad, before, allowed, what in (
        (new.errors, old.errors, canary.max_error_ratio, "requests failed"),
        (new.not_finite, old.not_finite, canary.max_not_finite_ratio, "answers had NaN or infinity in them"),
    ):
        usual = before / old.requests if old.requests else 0.0
        if bad > (allowed + usual) * asked:
            return (
                f"{bad} of {new.requests} {what}, where the live version had {before} of {old.requests} "
                f"and {allowed:.2%} more are allowed"
            )
    return ""


def _missing(canary: Canary, step: CanaryStep, new: Window, old: Window, *, told: bool) -> str:
    enough_old = min(step.min_requests, 2 * TAIL)
    if not told:
        return "no gateway tells of it"
    if new.requests < step.min_requests:
        return f"{new.requests} of {step.min_requests} requests"
    if old.requests < enough_old:
        return f"{old.requests} of {enough_old} requests of the live version to compare with"
    if not sum(new.counts) or not sum(old.counts):
        return "no latency was told"
    if canary.max_drift < 1 and not (new.predictions and old.predictions):
        return "no predictions to compare"
    return ""


def _share(window: Window) -> float:
    """The percentile that enough answers lie above, at most the 99th."""
    return min(0.99, max(0.5, 1 - TAIL / max(1, sum(window.counts))))


def _slower(canary: Canary, new: Window, old: Window) -> str:
    share = min(_share(new), _share(old))
    latency, before = new.quantile(share), old.quantile(share)
    if latency is None or before is None:
        return ""
    if latency <= before * canary.max_latency_ratio or latency - before <= LATENCY_SLACK_SECONDS:
        return ""
    return (
        f"latency p{share * 100:.0f} {latency * 1000:.0f} ms is {latency / max(before, 1e-9):.1f} times the live version's "
        f"{before * 1000:.0f} ms (at most {canary.max_latency_ratio:g} times)"
    )


def _drifted(canary: Canary, drift: float | None) -> str:
    if drift is None or drift <= canary.max_drift:
        return ""
    return f"its predictions are {drift:.2f} from the live version's (Jensen-Shannon distance, at most {canary.max_drift:g})"


def _seen(new: Window, old: Window, drift: float | None) -> str:
    share = min(_share(new), _share(old))
    latency, before = new.quantile(share), old.quantile(share)
    parts = [f"{new.errors} of {new.requests} requests failed (live {old.errors} of {old.requests})"]
    if latency is not None and before is not None:
        parts.append(f"p{share * 100:.0f} {latency * 1000:.0f} ms (live {before * 1000:.0f} ms)")
    if drift is not None:
        parts.append(f"predictions {drift:.2f} apart")
    return ", ".join(parts)

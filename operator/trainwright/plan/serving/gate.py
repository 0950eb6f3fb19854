"""Whether a version's metrics let it through: against bounds, and against the live version's on the same test set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trainwright.api.deployment_status import Version
from trainwright.api.spec import Gate


def judged(gates: Iterable[Gate], candidate: Version, live: Version | None) -> tuple[list[str], list[str]]:
    """What holds and what doesn't, a line for each bound of each gate; a metric that isn't there holds nothing."""
    held: list[str] = []
    broken: list[str] = []
    metrics: Mapping[str, float] = candidate.metrics or {}
    for gate in gates:
        value = metrics.get(gate.metric)
        if value is None:
            known = ", ".join(sorted(metrics)) or "no metrics at all"
            broken.append(f"{gate.metric} is not in the artifact's manifest, which has {known}")
            continue
        if gate.min is not None:
            (held if value >= gate.min else broken).append(
                f"{gate.metric} {value:.4g} {'≥' if value >= gate.min else 'is below'} {gate.min:g}"
            )
        if gate.max is not None:
            (held if value <= gate.max else broken).append(
                f"{gate.metric} {value:.4g} {'≤' if value <= gate.max else 'is above'} {gate.max:g}"
            )
        if live is not None:
            _against_live(gate, value, candidate, live, held, broken)
    return held, broken


def _against_live(gate: Gate, value: float, candidate: Version, live: Version, held: list[str], broken: list[str]) -> None:
    if gate.max_drop_from_live is None and gate.max_rise_from_live is None:
        return
    before = (live.metrics or {}).get(gate.metric)
    if before is None:
        broken.append(f"{gate.metric} can't be compared: live version {live.version} has no such metric")
        return
    if candidate.test is None or candidate.test != live.test:
        broken.append(
            f"{gate.metric} can't be compared: it was not measured on the test set of live version {live.version}; "
            "train on the same data and split, or gate by min and max alone"
        )
        return
    for allowed, worse, word in (
        (gate.max_drop_from_live, before - value, "below"),
        (gate.max_rise_from_live, value - before, "above"),
    ):
        if allowed is None:
            continue
        # Half a unit in the last place of a rounded number is no difference.
        beside = f"live version {live.version}'s {before:.4g}"
        if worse <= allowed + 1e-9:
            held.append(f"{gate.metric} {value:.4g} is not more than {allowed:g} {word} {beside}")
        else:
            broken.append(f"{gate.metric} {value:.4g} is {worse:.4g} {word} {beside} (allowed: {allowed:g})")

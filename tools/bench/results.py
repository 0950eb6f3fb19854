"""From figures to verdicts: medians, ratios, bounds. Pure; what is measured comes from the cases."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    WITHIN = "ok"
    BROKEN = "BROKEN"
    NOT_MEASURED = "NOT MEASURED"
    FOR_INFORMATION = "-"


@dataclass(frozen=True, kw_only=True)
class Range:
    """What a figure may be: at most `bound`, at least `least`. `measured` is what it was when docs/measurements.md was written.

    `group` is the group of measurements that it comes from (`bench --only`).
    """

    name: str
    group: str
    what: str
    unit: str
    bound: float | None = None
    least: float | None = None
    measured: float | None = None
    quick: bool = False

    @property
    def timed(self) -> bool:
        """Whether it depends on what else the machine does, as seconds do, and ratios of them still do a little."""
        return self.unit == "s" or self.unit.startswith("x")

    def for_information(self) -> Range:
        """The same without a bound."""
        return replace(self, bound=None, least=None)

    @property
    def bounds(self) -> str:
        """As a reader of the table sees them."""
        limits = (("≤", self.bound), ("≥", self.least))
        return " ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Repeats of one measurement and, where it is judged as a ratio, those of its floor, taken in turns with them.

    `unit` is that of the samples. `notes` go into the JSON as they are.
    """

    name: str
    samples: Sequence[float]
    floor: Sequence[float] = ()
    unit: str = "s"
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> float:
        return statistics.median(self.samples)

    @property
    def floor_measured(self) -> float | None:
        return statistics.median(self.floor) if self.floor else None

    @property
    def value(self) -> float:
        """What the bound applies to: the ratio of the medians where there is a floor, else the median itself."""
        return self.measured / self.floor_measured if self.floor_measured is not None else self.measured

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of the single repeats, each as `value` is."""
        if len(self.floor) == len(self.samples):
            single = [sample / floor for sample, floor in zip(self.samples, self.floor, strict=True)]
        elif self.floor_measured is not None:
            single = [sample / self.floor_measured for sample in self.samples]
        else:
            single = list(self.samples)
        return min(single), max(single)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    range: Range
    figure: Figure | None
    verdict: Verdict


def read_ranges(text: str) -> list[Range]:
    """The ranges of a TOML file, in its order."""
    return [Range(name=name, **fields) for name, fields in tomllib.loads(text)["range"].items()]


def judge(limits: Range, figure: Figure | None) -> Verdict:
    """`bound` is broken by what is above it, `least` by what is below; what was expected and has no figure is a failure too."""
    if figure is None:
        return Verdict.NOT_MEASURED
    if limits.bound is None and limits.least is None:
        return Verdict.FOR_INFORMATION
    is_low_enough = limits.bound is None or figure.value <= limits.bound
    is_high_enough = limits.least is None or figure.value >= limits.least
    return Verdict.WITHIN if is_low_enough and is_high_enough else Verdict.BROKEN


def rows(ranges: Iterable[Range], figures: Iterable[Figure]) -> list[Row]:
    """A row for each range, in the order of the ranges. Raises ValueError for a figure that no range names."""
    ranges = list(ranges)
    by_name = {figure.name: figure for figure in figures}
    if unknown := sorted(by_name.keys() - {one.name for one in ranges}):
        raise ValueError(f"no range is called {', '.join(unknown)}")
    return [Row(one, by_name.get(one.name), judge(one, by_name.get(one.name))) for one in ranges]


def passed(table: Iterable[Row]) -> bool:
    return all(row.verdict in (Verdict.WITHIN, Verdict.FOR_INFORMATION) for row in table)

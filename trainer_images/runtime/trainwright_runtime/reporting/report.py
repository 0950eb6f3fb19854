"""What a report is made of, and the files it becomes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainwright_runtime.sealed import Writer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """Lines over one axis, such as training and validation loss over epochs. `lines`: name → points (x, y)."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[Sequence[float]]]
    log: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance:
    """How much each feature counts, in the unit of `meaning`. `spread`: standard deviation of each value, where it is known."""

    title: str
    meaning: str
    names: Sequence[str]
    values: Sequence[float]
    spread: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """One training. What is left empty has no section.

    `metrics`: name → value, the one that matters most first; names as in `/progress` (`test_accuracy`). `evaluation`: what
    `scores.classification` or `scores.regression` made of the test part. `tables`: title → rows, each a mapping of column to
    value. `environment`: label → value.
    """

    title: str
    recipe: str
    summary: str
    metrics: Mapping[str, float]
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    curves: Sequence[Curve] = ()
    importances: Sequence[Importance] = ()
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """The report as JSON has it; what is no finite number is null."""
        data: dict[str, Any] = _finite(dataclasses.asdict(self))
        return data


def files(report: Report, *, more: Mapping[str, Any] | None = None) -> dict[str, Writer]:
    """`report.json`, `report.html` (all pictures inside) and `curves.png`, as `sealed.write_sealed` takes them.

    `more` is what a recipe keeps in `report.json` beside what the page shows.
    """
    from trainwright_runtime.reporting import figures, page  # noqa: PLC0415 - matplotlib and jinja2

    text = json.dumps({**report.data(), **(more or {})}, indent=1, ensure_ascii=False, default=str).encode()
    html = page.render(report).encode()
    picture = figures.overview(report)
    return {
        "report.json": lambda stream: stream.write(text),
        "report.html": lambda stream: stream.write(html),
        "curves.png": lambda stream: stream.write(picture),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

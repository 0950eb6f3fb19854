"""Series that are made of an object's status at each scrape: nothing is kept beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from trainwright.controller.metrics import Declared

Seen = TypeVar("Seen")

Values = Iterable[tuple[tuple[str, ...], float | None]]
"""Values of labels beside namespace and name, and the value; None where there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class StatusMetric(Declared, Generic[Seen]):
    """A row of a table: `values` finds its values in what is seen of one object."""

    values: Callable[[Seen], Values]


@dataclass(frozen=True)
class Table(Generic[Seen]):
    """Makes the rows of one kind, whose word is part of their names and one of their labels."""

    kind: str

    def metric(
        self, name: str, help: str, values: Callable[[Seen], Values], *labels: str, kind: str = "gauge"
    ) -> StatusMetric[Seen]:
        """A row with labels of its own."""
        return StatusMetric(
            name=f"trainwright_{self.kind}_{name}",
            kind="counter" if kind == "counter" else "gauge",
            help=help,
            labels=("namespace", self.kind, *labels),
            values=values,
        )

    def plain(self, name: str, help: str, value: Callable[[Seen], float | None], *, kind: str = "gauge") -> StatusMetric[Seen]:
        """A row with one value."""
        return self.metric(name, help, lambda seen: [((), value(seen))], kind=kind)


def families(table: Iterable[StatusMetric[Seen]], objects: Sequence[tuple[str, str, Seen]]) -> Iterator[Metric]:
    """What the rows say of all objects, each with its namespace and name."""
    for metric in table:
        family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
            metric.name, metric.help, labels=metric.labels
        )
        for namespace, name, seen in objects:
            for labels, value in metric.values(seen):
                if value is not None:
                    family.add_metric([namespace, name, *labels], value)
        yield family

"""The report of a model that learned from a table, whatever the framework: how good it is, in words and in numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.reporting import Report
from trainwright_runtime.tabular.config import TabularConfig
from trainwright_runtime.tabular.data import TabularData


def report(
    environment: RankEnvironment,
    config: TabularConfig,
    data: TabularData,
    test: Mapping[str, Any],
    *,
    recipe: str,
    metrics: Mapping[str, float],
    libraries: Sequence[str],
    facts: Mapping[str, Any] | None = None,
    **more: Any,
) -> Report:
    """`test` is what `reporting.scores` says of the test part; `libraries` are distributions whose versions are shown, and
    `facts` what else is of the environment; `more` are other fields of the report, such as its curves.
    """
    return Report(
        title=environment.job,
        recipe=recipe,
        summary=summary(test, data),
        metrics=dict(metrics),
        evaluation=dict(test),
        config=config.model_dump(mode="json"),
        environment={
            "rows": data.sizes,
            "columns": f"{len(data.numeric)} of numbers, {len(data.categorical)} of words",
            "data": f"sha256 {data.fingerprint['sha256'][:16]}…",
            "workers": environment.workers,
            "attempt": environment.attempt,
            **(facts or {}),
            "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            **{name: metadata.version(name) for name in libraries},
        },
        **more,
    )


def summary(test: Mapping[str, Any], data: TabularData) -> str:
    """One sentence: how good, and how good that is beside what needs no model."""
    scores = test["metrics"]
    if data.task == "classification":
        return (
            f"Accuracy {scores['accuracy']:.1%} on {test['rows']} test rows of {len(data.classes)} classes; always "
            f"guessing the most frequent class reaches {test['baseline']:.1%}."
        )
    return (
        f"On {test['rows']} test rows the model explains {scores['r2']:.0%} of the variance of {data.target}, "
        f"and is {scores['mae']:.4g} off on average; always answering the median is {test['baseline']:.4g} off."
    )


def named(test: Mapping[str, float], validation: Mapping[str, float]) -> dict[str, float]:
    """Measures of both parts by the names that they are reported under, each measure's two beside each other."""
    parts = {"test": test, "val": validation}
    return {f"{part}_{name}": scores[name] for name in test for part, scores in parts.items() if name in scores}

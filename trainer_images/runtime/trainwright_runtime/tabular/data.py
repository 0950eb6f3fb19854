"""A table made ready to learn from: which columns are features and of which kind, what is predicted, and who sees which rows.

Everything is a function of the table, the configuration and its seed, so every worker of a gang comes to the same parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import DataSource
from trainwright_runtime.exits import say
from trainwright_runtime.startup import DATA, STARTUP
from trainwright_runtime.tabular.config import TabularConfig, Task
from trainwright_runtime.tabular.profile import fingerprint, histogram
from trainwright_runtime.tabular.read import listed, near, read

MAX_CLASSES_OF_NUMBERS = 20
MAX_CATEGORIES = 1000
MIN_ROWS = 10
MISSING = ""
"""What stands for a missing word in a categorical column."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Some rows. `features`: DataFrame, columns of float64 and of str. `target`: (rows,), str classes or float64 values."""

    features: Any
    target: Any

    def __len__(self) -> int:
        return len(self.target)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TabularData:
    """Three parts of one table. `classes` are sorted, and empty for a regression. `histograms` are of the training part.

    `fingerprint` is of the whole table, its `test` of the test part: who has the same was measured by the same rows.
    """

    task: Task
    target: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    fingerprint: dict[str, Any]
    histograms: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.task} of {self.target!r}, {self.sizes} rows"

    @property
    def main_metric(self) -> str:
        """The measure that a model for this task is known by, as scikit-learn names its scorer."""
        return "accuracy" if self.task == "classification" else "r2"

    @property
    def sizes(self) -> str:
        """Rows of each part, for whoever reads a log or a report."""
        return f"{len(self.train):,} training, {len(self.validation):,} validation, {len(self.test):,} test"


@STARTUP.part(DATA)
def load(sources: Sequence[DataSource], config: TabularConfig) -> TabularData:
    """The data of this job; raises InvalidConfig, naming the key or the column, where it can't be learned from."""
    source = read(sources)
    sizes = {part: len(table) for part, table in source.parts.items()}
    whole = pd.concat(source.parts.values(), ignore_index=True)
    part_of_row = np.repeat(list(sizes), list(sizes.values()))
    if len(whole) < MIN_ROWS:
        raise InvalidConfig(f"{source.place} has {len(whole)} rows; at least {MIN_ROWS} are needed")
    target = _target_name(config, source.target, list(whole.columns), source.place)
    names = _feature_names(config, target, list(whole.columns), source.place)
    known = whole[target].notna().to_numpy()
    if not known.all():
        say(f"{(~known).sum()} of {len(whole)} rows have no {target!r}, and are left out")
        whole, part_of_row = whole[known], part_of_row[known]
    task = _task(config, source.task, whole[target])
    features = pd.DataFrame({name: _feature(whole[name], name, name in config.categorical) for name in names})
    features, labels, part_of_row = _without_missing(features, whole[target], part_of_row, config)
    values = _classes(labels) if task == "classification" else _numbers(labels, target)
    parts = _parts(values, part_of_row, task, config, target)
    made = {name: Part(features=features.iloc[rows].reset_index(drop=True), target=values[rows]) for name, rows in parts.items()}
    classes = tuple(sorted(set(values))) if task == "classification" else ()
    categorical = tuple(name for name in names if not pd.api.types.is_numeric_dtype(features[name]))
    return TabularData(
        task=task,
        target=target,
        numeric=tuple(name for name in names if name not in categorical),
        categorical=categorical,
        classes=classes,
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        fingerprint={
            **fingerprint(features.assign(**{target: values})),
            "test": fingerprint(made["test"].features.assign(**{target: made["test"].target}))["sha256"],
        },
        histograms={
            name: histogram(column) for name, column in made["train"].features.assign(**{target: made["train"].target}).items()
        },
    )


def _target_name(config: TabularConfig, own: str | None, columns: list[str], place: str) -> str:
    if (name := config.target or own) is None:
        raise InvalidConfig(f"key 'target' is missing: which column of {place} is predicted; there are: {listed(columns)}")
    if name not in columns:
        raise InvalidConfig(f"key 'target' has the value {name!r}, which {place} lacks; {near(name, columns)}")
    return name


def _feature_names(config: TabularConfig, target: str, columns: list[str], place: str) -> list[str]:
    for key in ("features", "drop", "categorical"):
        for name in getattr(config, key) or ():
            if name not in columns:
                raise InvalidConfig(f"key {key!r} names {name!r}, a column that {place} lacks; {near(name, columns)}")
    chosen = list(config.features) if config.features is not None else columns
    names = [name for name in chosen if name != target and name not in config.drop]
    if not names:
        raise InvalidConfig(f"no column of {place} is left to learn from: 'drop' leaves out all but the target")
    if unused := sorted(set(config.categorical) - set(names)):
        raise InvalidConfig(f"key 'categorical' names {unused[0]!r}, which is not a feature")
    return names


def _task(config: TabularConfig, own: Task | None, target: Any) -> Task:
    is_number = pd.api.types.is_numeric_dtype(target) and not pd.api.types.is_bool_dtype(target)
    if config.task != "auto":
        if config.task == "regression" and not is_number:
            example = next(iter(target))
            raise InvalidConfig(
                f"key 'task' has the value 'regression', but target {target.name!r} has values such as {example!r}, which are "
                "not numbers; accepted: classification, or a target of numbers"
            )
        return config.task
    if own is not None and config.target in (None, target.name):
        return own
    if not is_number:
        return "classification"
    few = target.nunique() <= MAX_CLASSES_OF_NUMBERS
    return "classification" if few and bool((target == target.round()).all()) else "regression"


def _feature(column: Any, name: str, declared: bool) -> Any:
    """A column as float64 or as str, missing values NaN or `MISSING`."""
    if pd.api.types.is_datetime64_any_dtype(column):
        raise InvalidConfig(f"column {name!r} is a date, which nothing can be learned from as it is; leave it out with 'drop'")
    if pd.api.types.is_numeric_dtype(column) and not declared:
        numbers = column.astype("float64")
        if np.isinf(numbers).any():
            raise InvalidConfig(f"column {name!r} has infinite values; accepted: numbers, and nothing where there is none")
        return numbers
    words = _words(column)
    distinct = words.nunique()
    if distinct > MAX_CATEGORIES or (distinct == len(words) and distinct > MIN_ROWS):
        raise InvalidConfig(
            f"column {name!r} has {distinct:,} different words in {len(words):,} rows, which tell rows apart and don't describe "
            f"them; leave it out with drop: [{name}] (accepted are at most {MAX_CATEGORIES:,} words, some of them more than once)"
        )
    return words


def _words(column: Any) -> Any:
    if pd.api.types.is_float_dtype(column) and bool((column.dropna() == column.dropna().round()).all()):
        # One missing value makes pandas read whole numbers as floats: 3 must not become "3.0" by that.
        column = column.astype("Int64")
    there = column.notna()
    return column.astype(object).map(str).where(there, MISSING).astype(object)


def _without_missing(features: Any, target: Any, part_of_row: Any, config: TabularConfig) -> tuple[Any, Any, Any]:
    absent = features.isna() | (features == MISSING)
    counts = absent.sum()
    if config.missing == "refuse" and counts.any():
        name = counts.idxmax()
        raise InvalidConfig(
            f"key 'missing' has the value 'refuse', and column {name!r} misses {counts[name]} of {len(features)} values"
        )
    if config.missing == "drop":
        kept = ~absent.any(axis=1).to_numpy()
        if not kept.all():
            say(f"{(~kept).sum()} of {len(kept)} rows have missing values, and are left out")
        return features[kept], target[kept], part_of_row[kept]
    return features, target, part_of_row


def _classes(target: Any) -> Any:
    return _words(target).to_numpy()


def _numbers(target: Any, name: str) -> Any:
    values = target.astype("float64").to_numpy()
    if not np.isfinite(values).all():
        raise InvalidConfig(f"target {name!r} has infinite values; accepted: numbers")
    return values


def _parts(values: Any, part_of_row: Any, task: Task, config: TabularConfig, target: str) -> dict[str, Any]:
    """Row numbers of each part. What doesn't come apart is split off the training rows, each class in the same shares."""
    rows = {part: np.flatnonzero(part_of_row == part) for part in ("train", "validation", "test")}
    shares = {"validation": config.validation_share, "test": config.test_share}
    wanted = {part: share for part, share in shares.items() if not (part_of_row == part).any()}
    generator = np.random.default_rng(config.seed)
    order = generator.permutation(rows["train"])
    groups = [order]
    if task == "classification":
        found = sorted(set(values))
        if len(found) < 2:
            raise InvalidConfig(f"target {target!r} has the one value {found[0]!r}; at least two classes are needed")
        groups = [order[values[order] == one] for one in found]
        for one, members in zip(found, groups, strict=True):
            if len(members) <= len(wanted):
                raise InvalidConfig(
                    f"class {one!r} of target {target!r} has {len(members)} row{'s' * (len(members) != 1)} to train on; at least "
                    f"{len(wanted) + 1} are needed, so that each part has one (were numbers meant? task: regression)"
                )
    rest = []
    for members in groups:
        taken = 0
        for part, share in wanted.items():
            count = max(1, round(len(members) * share))
            rows[part] = np.concatenate([rows[part], members[taken : taken + count]])
            taken += count
        rest.append(members[taken:])
    rows["train"] = np.sort(np.concatenate(rest))
    for part, members in rows.items():
        if len(members) < 2 or (part == "train" and len(members) < MIN_ROWS // 2):
            raise InvalidConfig(f"the {part} part has {len(members)} rows, too few to learn from or to measure by")
        rows[part] = np.sort(members)
    return rows

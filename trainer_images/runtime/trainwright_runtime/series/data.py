"""A table of one or several series made ready to forecast from: rows in the order of time, and windows over them.

The parts follow each other in time, as they will when the model is used: what is to be forecast of a later part lies after all
that was learned from. A window of a later part may look back into an earlier one, for then that is known.
`co2`: weekly means of carbon dioxide in the air at Mauna Loa, 1958 to 2001, in parts per million; C. D. Keeling and T. P. Whorf,
Carbon Dioxide Information Analysis Center, 2004; in the public domain.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import DataSource
from trainwright_runtime.exits import say
from trainwright_runtime.series.config import SeriesConfig
from trainwright_runtime.startup import DATA, STARTUP
from trainwright_runtime.tabular.profile import fingerprint, histogram
from trainwright_runtime.tabular.read import Source, near, read

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
PARTS = ("train", "validation", "test")
MIN_WINDOWS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesData:
    """`values`: (rows, channels), the series one after the other, each in its order of time; channel 0 is the target. `starts`:
    by part, the row at which the window of each forecast begins; its `window` rows and the `horizon` after it are of one series.

    `means` and `scales` are of the training rows, by channel; `change` is how far the target usually moves in the training
    windows from its last known value. `labels` names the rows' times. `fingerprint` is of the whole table, its `test` of the
    rows that are forecast in the test part.
    """

    target: str
    channels: tuple[str, ...]
    values: Floats
    labels: tuple[str, ...]
    starts: dict[str, Places]
    window: int
    horizon: int
    season: int | None
    means: Floats
    scales: Floats
    change: float
    count: int
    fingerprint: dict[str, Any]
    histograms: dict[str, Any]

    def __str__(self) -> str:
        many = f", {self.count} series" if self.count > 1 else ""
        return f"{self.horizon} of {self.target!r} from the {self.window} before{many}, {self.sizes} windows"

    @property
    def sizes(self) -> str:
        """Windows of each part, for whoever reads a log or a report."""
        return ", ".join(f"{len(self.starts[part]):,} {'training' if part == 'train' else part}" for part in PARTS)

    def windows(self, starts: Places) -> Floats:
        """What forecasts look back on, (forecasts, window, channels)."""
        found: Floats = self.values[starts[:, None] + np.arange(self.window)]
        return found

    def truth(self, starts: Places) -> Floats:
        """What came then, (forecasts, horizon)."""
        found: Floats = self.values[starts[:, None] + self.window + np.arange(self.horizon), 0]
        return found

    def naive(self, starts: Places) -> Floats:
        """The forecast that needs no model, (forecasts, horizon): the season before again, or the last value."""
        ends = starts[:, None] + self.window
        back = ends - 1 + np.zeros(self.horizon, int) if self.season is None else ends - self.season + np.arange(self.horizon)
        found: Floats = self.values[back, 0]
        return found


@STARTUP.part(DATA)
def load(sources: Sequence[DataSource], config: SeriesConfig) -> SeriesData:
    """The data of this job; raises InvalidConfig, naming the key or the column, where nothing can be forecast from it."""
    source = read(sources, SeriesConfig.BUILTINS, _builtin)
    if len(source.parts) > 1:
        raise InvalidConfig(
            f"{source.place} comes apart into {', '.join(source.parts)}; a series is one table, split by its time"
        )
    table = source.parts["train"]
    target = config.target or source.target
    if target is None:
        raise InvalidConfig(f"key 'target' is missing: which column of {source.place} is forecast")
    for key, names in (
        ("target", [target]),
        ("time", [config.time]),
        ("series", [config.series]),
        ("covariates", config.covariates),
    ):
        for name in names:
            if name is not None and name not in table.columns:
                raise InvalidConfig(
                    f"key {key!r} names {name!r}, a column that {source.place} lacks; {near(name, list(table.columns))}"
                )
    channels = (target, *config.covariates)
    rows = _in_order(table, channels, config)
    rows = _without_gaps(rows, channels, config)
    values = rows[list(channels)].to_numpy(dtype=np.float32, copy=True)
    parts = _parts(rows, config)
    starts = _starts(rows, parts, config, source.place)
    trained, forecast = values[parts == 0], starts["train"][:, None] + config.window
    moved = values[forecast + np.arange(config.horizon), 0] - values[forecast - 1, 0]
    plain = rows.drop(columns=["_series", "_order"])
    return SeriesData(
        target=target,
        channels=channels,
        values=values,
        labels=tuple(rows["_label"]),
        starts=starts,
        window=config.window,
        horizon=config.horizon,
        season=config.season,
        means=trained.mean(axis=0),
        scales=_or_one(trained.std(axis=0)),
        change=float(_or_one(moved.std())),
        count=int(rows["_series"].nunique()),
        fingerprint={**fingerprint(plain), "test": fingerprint(plain[parts == len(PARTS) - 1])["sha256"]},
        histograms={name: histogram(rows[name][parts == 0]) for name in channels},
    )


def _builtin(name: str) -> Source:
    table = pd.read_csv(Path(__file__).with_name(f"{name}.csv"))
    return Source(place=f"builtin: {name}", parts={"train": table}, target="co2")


def _in_order(table: Any, channels: Sequence[str], config: SeriesConfig) -> Any:
    """Rows by series and time, with the columns `_series`, `_order` (of the time) and `_label` beside the channels."""
    rows = pd.DataFrame({name: _numbers(table[name]) for name in channels})
    rows["_series"] = table[config.series].astype(str) if config.series else ""
    if config.time is None:
        rows["_order"] = rows.groupby("_series", sort=False).cumcount().astype("float64")
        rows["_label"] = rows["_order"].astype(int).astype(str)
    else:
        rows["_order"], rows["_label"] = _times(table[config.time]), table[config.time].astype(str)
    rows = rows.sort_values(["_series", "_order"], kind="stable").reset_index(drop=True)
    twice = rows.duplicated(["_series", "_order"])
    if twice.any():
        row = rows[twice].iloc[0]
        whose = f" in series {row['_series']!r}" if config.series else ": is 'series' missing?"
        raise InvalidConfig(f"column {config.time!r} has {row['_label']!r} twice{whose}; accepted: one row for each time")
    steps = rows.groupby("_series")["_order"].diff().dropna()
    if len(steps) and steps.max() > 1.5 * steps.median():
        at = rows["_label"][steps.idxmax()]
        say(f"times are not even: before {at} more rows are missing than one; a window counts rows, not time")
    return rows


def _numbers(column: Any) -> Any:
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        example = next(iter(column.dropna()), None)
        raise InvalidConfig(f"column {column.name!r} has values such as {example!r}; accepted: numbers, and nothing for a gap")
    numbers = column.astype("float64")
    if np.isinf(numbers).any():
        raise InvalidConfig(f"column {column.name!r} has infinite values; accepted: numbers, and nothing for a gap")
    return numbers


def _times(column: Any) -> Any:
    if column.isna().any():
        raise InvalidConfig(f"column {column.name!r} has {column.isna().sum()} rows without a time; accepted: a time in each row")
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    try:
        read = pd.to_datetime(column, utc=True)
    except (ValueError, TypeError) as error:
        raise InvalidConfig(
            f"column {column.name!r} can't be read as times: {error}; accepted: dates such as 2026-11-30"
        ) from None
    return read.astype("int64").astype("float64")


def _without_gaps(rows: Any, channels: Sequence[str], config: SeriesConfig) -> Any:
    names = list(channels)
    gaps = rows[names].isna().sum()
    if not gaps.any():
        return rows
    if config.missing == "refuse":
        name = gaps.idxmax()
        raise InvalidConfig(
            f"key 'missing' has the value 'refuse', and column {name!r} misses {gaps[name]} of {len(rows)} values"
        )
    rows[names] = rows.groupby("_series")[names].ffill()
    known = rows[names].notna().all(axis=1)
    say(f"{gaps.sum()} values are missing: the last ones known are carried on")
    return rows[known].reset_index(drop=True)


def _parts(rows: Any, config: SeriesConfig) -> npt.NDArray[Any]:
    """The part of each row, as its place in `PARTS`: cut at the same two times in all series."""
    times = np.unique(rows["_order"])
    ends = [round(len(times) * share) for share in (1 - config.validation_share - config.test_share, 1 - config.test_share)]
    cuts = [times[min(end, len(times) - 1)] for end in ends] if len(times) else []
    parts: npt.NDArray[Any] = np.searchsorted(cuts, rows["_order"].to_numpy(), side="right")
    return parts


def _starts(rows: Any, parts: npt.NDArray[Any], config: SeriesConfig, place: str) -> dict[str, Places]:
    """Where a window may begin: all that is forecast from it is of one part, and of the series that it looks back on."""
    found: dict[str, list[Places]] = {part: [] for part in PARTS}
    for first, end in _series(rows):
        forecast = np.arange(first + config.window, end - config.horizon + 1)
        last = forecast + config.horizon - 1
        for place_of, part in enumerate(PARTS):
            is_whole = (parts[forecast] == place_of) & (parts[last] == place_of) if len(forecast) else np.zeros(0, bool)
            found[part].append(forecast[is_whole] - config.window)
    starts = {part: np.concatenate(many) if many else np.zeros(0, np.int64) for part, many in found.items()}
    for part, places in starts.items():
        if len(places) < MIN_WINDOWS:
            raise InvalidConfig(
                f"the {part} part of {place} has {len(places)} forecasts of {config.horizon} rows with {config.window} before "
                f"them; at least {MIN_WINDOWS} are needed: a shorter 'window' or 'horizon', or more rows than {len(rows):,}"
            )
    return starts


def _series(rows: Any) -> Iterator[tuple[int, int]]:
    """First row and end of each series."""
    names = rows["_series"].to_numpy()
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    yield from itertools.pairwise(edges)


def _or_one(scale: Any) -> Any:
    """A scale to divide by, where it is one."""
    return np.where(scale > 0, scale, 1.0).astype(np.float32)

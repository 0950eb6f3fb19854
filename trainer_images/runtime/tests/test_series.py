"""Time series made ready to forecast from: nothing of a later part is learned from, and what can't be is refused by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainwright_runtime.config import InvalidConfig, read_config
from trainwright_runtime.environment import DataSource
from trainwright_runtime.series.config import NetworkConfig, SeriesConfig
from trainwright_runtime.series.data import SeriesData, load
from trainwright_runtime.series.scores import lines, measured

CO2 = (DataSource(name="train", builtin="co2"),)


def table(folder: Path, frame: pd.DataFrame) -> tuple[DataSource, ...]:
    frame.to_csv(folder / "table.csv", index=False)
    return (DataSource(name="train", path=folder / "table.csv"),)


def days(count: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"day": pd.date_range("2026-01-01", periods=count).astype(str), **columns})


def test_the_builtin_series_is_what_it_was() -> None:
    data = load(CO2, SeriesConfig(time="week", window=52, horizon=8))
    assert data.values.shape == (2284, 1)
    assert {part: len(starts) for part, starts in data.starts.items()} == {"train": 1540, "validation": 335, "test": 336}
    assert (data.labels[0], data.labels[-1]) == ("1958-03-29", "2001-12-29")
    assert str(data) == "8 of 'co2' from the 52 before, 1,540 training, 335 validation, 336 test windows"


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(45, 70), min_size=1, max_size=3),
    window=st.integers(1, 6),
    horizon=st.integers(1, 4),
    shuffle=st.randoms(use_true_random=False),
    starts_later=st.integers(0, 10),
)
def test_nothing_that_is_forecast_later_was_learned_from(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], window: int, horizon: int, shuffle: Any, starts_later: int
) -> None:
    """Several series, some of which begin later, in a table of any order. Each value names its series and time."""
    rows = [
        {"shop": f"s{number}", "time": time + starts_later * number, "sold": 1000 * number + time + starts_later * number}
        for number, length in enumerate(lengths)
        for time in range(length)
    ]
    shuffle.shuffle(rows)
    config = SeriesConfig(target="sold", time="time", series="shop", window=window, horizon=horizon)
    data = load(table(tmp_path_factory.mktemp("series"), pd.DataFrame(rows)), config)
    learned_until: float = -1
    for part in ("train", "validation", "test"):
        starts = data.starts[part]
        windows, truth = data.windows(starts)[:, :, 0], data.truth(starts)
        whole = np.concatenate([windows, truth], axis=1)
        assert (np.diff(whole, axis=1) == 1).all(), "rows of one series, in the order of time"
        times = truth % 1000
        assert times.min() > learned_until, "what is forecast lies after all that was learned from, in every series"
        learned_until = times.max()
    seen = np.concatenate([data.windows(data.starts["train"])[:, :, 0].ravel(), data.truth(data.starts["train"]).ravel()])
    assert not set(seen) & set(data.truth(data.starts["test"]).ravel())


def test_scales_are_of_the_training_rows_alone(tmp_path: Path) -> None:
    flat = days(100, sold=[float(day % 2) for day in range(70)] + [1e6] * 30, rain=[1.0] * 100)
    data = load(table(tmp_path, flat), SeriesConfig(target="sold", time="day", covariates=("rain",), window=4))
    np.testing.assert_allclose(data.means, [0.5, 1.0])
    np.testing.assert_allclose(data.scales, [0.5, 1.0])
    assert data.change == pytest.approx(1.0)
    assert sum(data.histograms["sold"]["counts"]) == 70


def test_a_gap_is_filled_by_what_was_known_then(tmp_path: Path) -> None:
    sold: list[float | None] = [float(day) for day in range(60)]
    sold[0] = sold[20] = sold[21] = None
    data = load(table(tmp_path, days(60, sold=sold)), SeriesConfig(target="sold", time="day", window=4))
    assert data.values[:, 0].tolist() == [1.0, *range(2, 20), 19.0, 19.0, *range(22, 60)], "the first had nothing before it"
    with pytest.raises(InvalidConfig, match="key 'missing' has the value 'refuse', and column 'sold' misses 3 of 60 values"):
        load(table(tmp_path, days(60, sold=sold)), SeriesConfig(target="sold", time="day", missing="refuse"))


def test_the_naive_forecast_repeats_the_last_value_or_the_season_before(tmp_path: Path) -> None:
    source = table(tmp_path, days(80, sold=[float(day % 7) for day in range(80)]))
    plain = load(source, SeriesConfig(target="sold", time="day", window=7, horizon=3))
    at = plain.starts["test"]
    np.testing.assert_array_equal(plain.naive(at), np.repeat(plain.windows(at)[:, -1:, 0], 3, axis=1))
    weekly = load(source, SeriesConfig(target="sold", time="day", window=7, horizon=3, season=7))
    np.testing.assert_array_equal(weekly.naive(at), weekly.truth(at))


def test_scores_are_those_that_can_be_worked_out_by_hand(tmp_path: Path) -> None:
    data = load(
        table(tmp_path, days(60, sold=[float(day) for day in range(60)])), SeriesConfig(target="sold", window=4, horizon=2)
    )
    at = data.starts["test"]
    found = measured(data.truth(at) + np.array([3.0, -1.0], np.float32), at, data)
    assert found["metrics"] == pytest.approx(
        {"rmse": 5**0.5, "mae": 2.0, "naive_rmse": 2.5**0.5, "naive_mae": 1.5, "skill": 1 - 2**0.5}
    )
    assert [(one["rows ahead"], one["RMSE"], one["naive RMSE"]) for one in found["byStep"]] == [(1, 3.0, 1.0), (2, 1.0, 2.0)]
    assert sum(found["predictions"]["counts"]) == 2 * len(at)
    drawn = lines(data.truth(at), at, data)
    assert drawn["truth"] == drawn["forecast"]
    assert [y for _, y in drawn["naive"]] == [y - 2 for _, y in drawn["truth"]]


def test_what_diverged_ends_the_training_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load(CO2, SeriesConfig(window=4))
    at = data.starts["test"]
    with pytest.raises(SystemExit) as end:
        measured(np.full((len(at), 1), np.nan), at, data)
    assert end.value.code == 64
    assert "try a lower 'learning_rate'" in capsys.readouterr().err + capsys.readouterr().out


@pytest.mark.parametrize(
    ("frame", "config", "said"),
    [
        pytest.param(days(60, sold=1.0), {}, "key 'target' is missing", id="no target"),
        pytest.param(
            days(60, sold=1.0), {"target": "sould"}, r"key 'target' names 'sould'.*did you mean 'sold'\?", id="typing mistake"
        ),
        pytest.param(
            days(60, sold=1.0), {"target": "sold", "covariates": ("rain",)}, "key 'covariates' names 'rain'", id="covariate"
        ),
        pytest.param(days(60, sold="much"), {"target": "sold"}, "column 'sold' has values such as 'much'", id="words"),
        pytest.param(days(60, sold=np.inf), {"target": "sold"}, "column 'sold' has infinite values", id="infinite"),
        pytest.param(
            pd.concat([days(60, sold=1.0), days(1, sold=2.0)]),
            {"target": "sold", "time": "day"},
            "column 'day' has '2026-01-01' twice: is 'series' missing?",
            id="a time twice",
        ),
        pytest.param(
            days(60, sold=1.0, when="soon"),
            {"target": "sold", "time": "when"},
            "column 'when' can't be read as times",
            id="no time",
        ),
        pytest.param(
            days(60, sold=1.0, when=[1.0, *[None] * 59]),
            {"target": "sold", "time": "when"},
            "59 rows without a time",
            id="no times",
        ),
        pytest.param(
            days(40, sold=1.0),
            {"target": "sold", "window": 38},
            "part of .*table.csv has 0 forecasts of 1 rows with 38",
            id="short",
        ),
    ],
)
def test_what_can_not_be_forecast_is_refused_by_its_name(
    frame: pd.DataFrame, config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig, match=said):
        load(table(tmp_path, frame), SeriesConfig(**config))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{windoe: 3}", "unknown key 'windoe'.*did you mean 'window'"),
        ("{target: a, covariates: [a]}", "column 'a' is named twice"),
        ("{window: 4, season: 7}", r"key 'season' has the value 7; accepted: from 'horizon' \(1\) to 'window' \(4\)"),
        ("{model: transformer, units: 30}", "key 'units' has the value 30, which 4 'heads' can't share evenly"),
        ("{validation_share: 0.45, test_share: 0.45}", "leave less than a tenth to train on"),
        ("{horizon: 0}", "key 'horizon' has the value 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidConfig, match=said):
        read_config(tmp_path / "config.yaml", NetworkConfig)


def test_parts_in_files_of_their_own_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        days(40, sold=1.0).to_csv(tmp_path / f"{part}.csv", index=False)
    with pytest.raises(InvalidConfig, match="comes apart into test, train; a series is one table"):
        load((DataSource(name="train", path=tmp_path),), SeriesConfig(target="sold"))


def test_uneven_times_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = days(60, sold=1.0).drop(index=range(20, 25))
    data: SeriesData = load(table(tmp_path, frame), SeriesConfig(target="sold", time="day", window=4))
    assert len(data.values) == 55
    assert "times are not even: before 2026-01-26" in "".join(capsys.readouterr())

"""What all recipes for tables share: reading, kinds of columns, splits, profiles, and what is refused in which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import DataSource
from trainwright_runtime.tabular.config import TabularConfig
from trainwright_runtime.tabular.data import TabularData, load
from trainwright_runtime.tabular.preprocess import preprocessor
from trainwright_runtime.tabular.profile import fingerprint, histogram

ROWS = 40
TABLE = {
    "height": [150 + row for row in range(ROWS)],
    "colour": ["red", "green", None, "blue"] * (ROWS // 4),
    "id": [f"row-{row}" for row in range(ROWS)],
    "y": ["a", "b"] * (ROWS // 2),
}
NUMBERS = {"x": np.linspace(0, 1, ROWS), "y": np.linspace(5, 6, ROWS)}


# --- what is understood -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task", "classes", "rows", "columns"),
    [
        ("breast_cancer", "classification", ("benign", "malignant"), 569, 30),
        ("wine", "classification", ("class_0", "class_1", "class_2"), 178, 13),
        ("iris", "classification", ("setosa", "versicolor", "virginica"), 150, 4),
        ("digits", "classification", tuple("0123456789"), 1797, 64),
        ("diabetes", "regression", (), 442, 10),
    ],
)
def test_builtin_tables(name: str, task: str, classes: tuple[str, ...], rows: int, columns: int) -> None:
    data = load([DataSource(name="any", builtin=name)], TabularConfig())
    assert (data.task, data.classes) == (task, classes)
    assert len(data.train) + len(data.validation) + len(data.test) == rows
    assert (len(data.numeric), data.categorical) == (columns, ())
    assert set(TabularConfig.BUILTINS) >= {name}


@pytest.mark.parametrize("write", ["csv", "tsv", "parquet", "csv.gz"])
def test_a_table_is_the_same_in_every_format(tmp_path: Path, write: str) -> None:
    table = pd.DataFrame(TABLE).drop(columns="id")
    for folder, kind in (("one", "csv"), ("other", write)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"table.{kind}"
        table.to_parquet(path) if kind == "parquet" else table.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    one, other = (load([DataSource(name="d", path=tmp_path / folder)], TabularConfig(target="y")) for folder in ("one", "other"))
    assert one.fingerprint == other.fingerprint
    assert one.histograms == other.histograms
    single = load([DataSource(name="d", path=tmp_path / "other" / f"table.{write}")], TabularConfig(target="y"))
    assert single.fingerprint == one.fingerprint


def test_several_files_are_one_table_and_named_ones_are_its_parts(tmp_path: Path) -> None:
    table = pd.DataFrame(TABLE).drop(columns="id")
    for number in (0, 1):
        table.iloc[number::2].to_csv(tmp_path / f"{number}.csv", index=False)
    (tmp_path / "README").write_text("not a table")
    (tmp_path / "..data").mkdir()
    whole = load([DataSource(name="d", path=tmp_path)], TabularConfig(target="y"))
    assert len(whole.train) + len(whole.validation) + len(whole.test) == ROWS
    for number, part in ((0, "train"), (1, "test")):
        (tmp_path / f"{number}.csv").rename(tmp_path / f"{part}.csv")
    table.assign(y=["a", "b"] * 20).iloc[::2].assign(y=["a", "b"] * 10).to_csv(tmp_path / "train.csv", index=False)
    table.iloc[:6].to_csv(tmp_path / "test.csv", index=False)
    parts = load([DataSource(name="d", path=tmp_path)], TabularConfig(target="y"))
    assert len(parts.test) == 6
    assert parts.test.features["height"].tolist() == [150, 151, 152, 153, 154, 155]
    assert len(parts.train) + len(parts.validation) == 20


@pytest.mark.parametrize(
    ("values", "keys", "task", "classes"),
    [
        (["no", "yes"] * 20, {}, "classification", ("no", "yes")),
        ([True, False] * 20, {}, "classification", ("False", "True")),
        ([1, 2] * 20, {}, "classification", ("1", "2")),
        ([1.0, 2.0] * 20, {}, "classification", ("1", "2")),
        ([0.5, 1.5] * 20, {}, "regression", ()),
        (list(range(40)), {}, "regression", ()),
        ([1, 2] * 20, {"task": "regression"}, "regression", ()),
        ([0.5, 1.5] * 20, {"task": "classification"}, "classification", ("0.5", "1.5")),
    ],
    ids=["words", "truth", "few whole numbers", "whole floats", "floats", "many whole numbers", "told numbers", "told classes"],
)
def test_the_task_follows_from_the_target(
    learn_from: Callable[..., TabularData], values: list[Any], keys: dict[str, Any], task: str, classes: tuple[str, ...]
) -> None:
    data = learn_from({"x": range(40), "y": values}, **keys)
    assert (data.task, data.classes) == (task, classes)


def test_columns_are_chosen_dropped_and_told_apart(learn_from: Callable[..., TabularData]) -> None:
    data = learn_from(TABLE, drop=["id"])
    assert (data.numeric, data.categorical) == (("height",), ("colour",))
    assert learn_from(TABLE, features=["height"]).categorical == ()
    as_words = learn_from({**NUMBERS, "code": [1, 2, None, 3] * 10}, categorical=["code"])
    assert as_words.categorical == ("code",)
    assert set(as_words.train.features["code"]) <= {"1", "2", "3", ""}, "a missing value doesn't make 1 into 1.0"


def test_rows_without_a_target_are_left_out_and_missing_values_treated_as_asked(learn_from: Callable[..., TabularData]) -> None:
    def rows(data: TabularData) -> int:
        return len(data.train) + len(data.validation) + len(data.test)

    table = {"x": [None, *range(1, 40)], "y": [*range(39), None]}
    assert rows(learn_from(table, task="regression")) == 39
    assert rows(learn_from(table, task="regression", missing="drop")) == 38
    with pytest.raises(InvalidConfig, match="column 'x' misses 1 of 39 values"):
        learn_from(table, task="regression", missing="refuse")


# --- splits and what learns from them ---------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=5).filter(lambda counts: sum(counts) >= 12),
    seed=st.integers(0, 99),
)
def test_every_class_is_in_every_part_and_no_row_in_two(counts: list[int], seed: int) -> None:
    from trainwright_runtime.tabular.data import _parts

    values = np.array([f"c{index}" for index, count in enumerate(counts) for _ in range(count)], dtype=object)
    parts = _parts(values, np.repeat("train", len(values)), "classification", TabularConfig(seed=seed), "y")
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(values)))
    for rows in parts.values():
        assert set(values[rows]) == set(values)


def test_the_same_seed_gives_the_same_parts_and_another_others(learn_from: Callable[..., TabularData]) -> None:
    one, same, other = (learn_from(NUMBERS, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one.test.features, same.test.features)
    assert set(one.test.features["x"]) != set(other.test.features["x"])
    assert one.fingerprint["sha256"] == other.fingerprint["sha256"]
    assert one.fingerprint["test"] != other.fingerprint["test"], "metrics on other rows are not to be compared"


def test_preprocessing_learns_from_the_training_part_alone(learn_from: Callable[..., TabularData]) -> None:
    """A leak would show in mean, median, or in a word that only the test part has."""
    data = learn_from({"x": [None, *np.linspace(0, 1, ROWS - 1)], "word": ["a", "b"] * 20, "y": np.linspace(5, 6, ROWS)})
    fitted = preprocessor(data, scale=True).fit(data.train.features)
    encoded = fitted.transform(data.train.features)
    assert encoded[:, 0].mean() == pytest.approx(0, abs=1e-9)
    assert encoded[:, 0].std() == pytest.approx(1)
    unseen = pd.DataFrame({"x": [None, 1e9], "word": ["a", "never seen"]}).astype({"x": "float64", "word": object})
    rows = fitted.transform(unseen)
    median = data.train.features["x"].median()
    scaler = fitted.named_transformers_["numeric"]["scale"]
    assert rows[0, 0] == pytest.approx((median - scaler.mean_[0]) / scaler.scale_[0])
    assert rows[1, 1:].tolist() == [0, 0]
    assert preprocessor(data, scale=False).fit(data.train.features).transform(unseen)[1, 0] == 1e9


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_one_changed_value_changes_the_fingerprint() -> None:
    table = pd.DataFrame(TABLE)
    changed = table.copy()
    changed.loc[7, "height"] += 1
    assert fingerprint(table) == fingerprint(table.copy())
    assert fingerprint(table)["sha256"] != fingerprint(changed)["sha256"]
    assert fingerprint(table)["sha256"] != fingerprint(table.rename(columns={"height": "width"}))["sha256"]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=200))
def test_a_histogram_of_numbers_counts_every_value_once(values: list[float | None]) -> None:
    made = histogram(pd.Series(values, dtype="float64"))
    assert len(made["edges"]) == len(made["counts"]) + 1
    assert all(low < high for low, high in zip(made["edges"], made["edges"][1:], strict=False))
    assert sum(made["counts"]) + made["missing"] == len(values)


def test_a_histogram_of_words_counts_the_rare_ones_together() -> None:
    words = pd.Series(["a"] * 5 + [""] * 2 + [f"w{number}" for number in range(150)], dtype=object)
    made = histogram(words)
    assert made["counts"]["a"] == 5
    assert (len(made["counts"]), made["missing"]) == (100, 2)
    assert sum(made["counts"].values()) + made["others"] + made["missing"] == len(words)


def test_histograms_are_of_the_training_part_target_included(learn_from: Callable[..., TabularData]) -> None:
    data = learn_from(TABLE, drop=["id"])
    assert set(data.histograms) == {"height", "colour", "y"}
    assert sum(data.histograms["height"]["counts"]) == len(data.train)
    assert sum(data.histograms["y"]["counts"].values()) == len(data.train)


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "keys", "said"),
    [
        (TABLE, {"target": None}, "key 'target' is missing: which column of .* is predicted; there are: height, colour, id, y"),
        (TABLE, {"target": "heigth"}, "key 'target' has the value 'heigth', which .* lacks; did you mean 'height'? there are: height,"),  # noqa: E501
        (TABLE, {"drop": ["ID"]}, "key 'drop' names 'ID', a column that .* lacks; .*there are: height"),
        (TABLE, {"drop": ["height", "colour", "id"]}, "no column of .* is left to learn from"),
        (TABLE, {}, "column 'id' has 40 different words in 40 rows, .* leave it out with drop: [id]"),
        (TABLE, {"drop": ["id"], "task": "regression"}, "key 'task' has the value 'regression', but target 'y' has values such as 'a'"),  # noqa: E501
        ({"x": range(5), "y": range(5)}, {}, "has 5 rows; at least 10 are needed"),
        ({"x": range(40), "y": ["a"] * 40}, {}, "target 'y' has the one value 'a'; at least two classes are needed"),
        ({"x": range(40), "y": ["a"] * 39 + ["b"]}, {}, "class 'b' of target 'y' has 1 row to train on; at least 3 are needed"),
        ({"x": [*range(39), float("inf")], "y": range(40)}, {}, "column 'x' has infinite values"),
        ({"x": range(40), "y": [*range(39), float("inf")]}, {"task": "regression"}, "target 'y' has infinite values"),
    ],
    ids=["no target", "misspelt target", "unknown column", "nothing left", "an identifier", "words for numbers", "too few rows",
         "one class", "a class with one member", "infinite feature", "infinite target"],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused(
    learn_from: Callable[..., TabularData], table: dict[str, Any], keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        learn_from(table, **keys)
    pattern = re.escape(said).replace(r"\.\*", ".*")
    assert re.search(pattern, str(refusal.value)), str(refusal.value)


def test_dates_are_refused_with_what_to_do(tmp_path: Path) -> None:
    table = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=20), "y": range(20)})
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InvalidConfig, match=r"column 'day' is a date.*leave it out with 'drop'"):
        load([DataSource(name="d", path=tmp_path)], TabularConfig(target="y"))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no table: there is nothing; accepted are files that end in .csv"),
        ({"notes.txt": "a"}, "holds no table: there is notes.txt"),
        ({"a.csv": "x,y\n1,2\n", "b.csv": "x,z\n1,2\n"}, "b.csv has not the columns of a.csv: they differ in y, z"),
        ({"train.csv": "x,y\n1,2\n", "more.csv": "x,y\n1,2\n"}, "holds more.csv beside train"),
        ({"a.parquet": "no parquet"}, "a.parquet can't be read as a table"),
        ({"a.csv": "x,y\n1,2\n1,2,3\n"}, "a.csv can't be read as a table: Error tokenizing data"),
    ],
    ids=["empty", "no table", "other columns", "a file of no part", "broken parquet", "broken csv"],
)
def test_files_that_are_no_table_are_named(tmp_path: Path, files: dict[str, str], said: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(InvalidConfig) as refusal:
        load([DataSource(name="d", path=folder)], TabularConfig(target="y"))
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([], "spec.data needs an entry named 'train', or a single one; there is none"),
        ([DataSource(name="a", builtin="iris"), DataSource(name="b", builtin="wine")], "there are a, b"),
        ([DataSource(name="a", builtin="mnist")], "builtin: mnist; accepted: breast_cancer, wine, iris, diabetes, digits"),
        ([DataSource(name="a", path=Path("/nowhere/at/all"))], "data /nowhere/at/all does not exist"),
    ],
)
def test_data_that_is_not_there(sources: list[DataSource], said: str) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        load(sources, TabularConfig())
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"features": ["a"], "drop": ["a"]}, "column 'a' is both in 'features' and in 'drop'"),
        ({"target": "y", "features": ["y"]}, "column 'y' is the 'target'"),
        ({"validation_share": 0.6}, "less than 0.5"),
    ],
)
def test_keys_that_contradict_each_other(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TabularConfig.model_validate(keys)

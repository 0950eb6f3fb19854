"""From a job's data entry to one pandas table for each part that it has, with nothing decided yet about columns or rows."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import DataSource
from trainwright_runtime.tabular.config import TabularConfig, Task

PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""First word of a file's name, and the part of the data that it is."""

_READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": pd.read_csv,
    ".csv.gz": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".parquet": pd.read_parquet,
    ".pq": pd.read_parquet,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Tables by the part that they are: `train`, and `validation` and `test` where they come apart. All have the same columns.

    `target` and `task` are known for builtin tables only.
    """

    place: str
    parts: dict[str, Any]
    target: str | None = None
    task: Task | None = None


def builtin_table(name: str) -> Source:
    """One of the tables that ship with scikit-learn."""
    from sklearn import datasets  # noqa: PLC0415 - seconds that data of the user's own needn't cost

    loaded = getattr(datasets, f"load_{name}")(as_frame=True)
    table = loaded.frame
    if name == "diabetes":
        return Source(place="builtin: diabetes", parts={"train": table}, target="target", task="regression")
    names = [str(one) for one in loaded.target_names]
    table = table.assign(target=[names[index] for index in loaded.target])
    return Source(place=f"builtin: {name}", parts={"train": table}, target="target", task="classification")


def read(
    sources: Sequence[DataSource],
    builtins: Sequence[str] = TabularConfig.BUILTINS,
    builtin: Callable[[str], Source] = builtin_table,
) -> Source:
    """The table of this job; raises InvalidConfig when it can't be told which, or it can't be read.

    `builtin` makes the table of one of the names in `builtins`.
    """
    by_name = {source.name: source for source in sources}
    source = by_name.get("train") or (sources[0] if len(sources) == 1 else None)
    if source is None:
        found = f"there are {', '.join(by_name)}" if by_name else "there is none"
        raise InvalidConfig(f"spec.data needs an entry named 'train', or a single one; {found}")
    if source.path is not None:
        return _files(source.path)
    if source.builtin is None or source.builtin not in builtins:
        raise InvalidConfig(f"spec.data {source.name!r} has the value builtin: {source.builtin}; accepted: {', '.join(builtins)}")
    return builtin(source.builtin)


def near(name: str, columns: list[str]) -> str:
    """What may have been meant by a name that no column has, and which there are."""
    close = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}there are: {listed(columns)}"


def listed(columns: list[str]) -> str:
    """Names of columns, not too many of them."""
    return ", ".join(columns[:30]) + (f" and {len(columns) - 30} more" if len(columns) > 30 else "")


def _files(root: Path) -> Source:
    """One file; or a folder of files, all of one table, or named after the parts that they are (`train.csv`, `test.parquet`)."""
    if not root.exists():
        raise InvalidConfig(f"data {root} does not exist")
    files = [root] if root.is_file() else sorted(path for path in root.iterdir() if path.is_file() and _suffix(path))
    if not files or (root.is_file() and not _suffix(root)):
        there = root.name if root.is_file() else ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
        raise InvalidConfig(f"{root} holds no table: there is {there}; accepted are files that end in {', '.join(_READERS)}")
    named = {path: PARTS.get(path.name.split(".")[0]) for path in files}
    if len(files) == 1 or "train" not in named.values():
        named = dict.fromkeys(files, "train")
    if unnamed := [path.name for path, part in named.items() if part is None]:
        raise InvalidConfig(f"{root} holds {unnamed[0]} beside train: with one file a part they are called train, val and test")
    parts: dict[str, list[Any]] = {}
    columns: tuple[str, ...] = ()
    for path, part in named.items():
        table = _table(path)
        if columns and tuple(sorted(table.columns)) != columns:
            differing = sorted(set(table.columns) ^ set(columns))
            raise InvalidConfig(f"{path.name} has not the columns of {files[0].name}: they differ in {', '.join(differing[:5])}")
        columns = tuple(sorted(table.columns))
        parts.setdefault(str(part), []).append(table)
    joined = {part: pd.concat(tables, ignore_index=True) for part, tables in parts.items()}
    order = list(joined["train"].columns)
    return Source(place=str(root), parts={part: table[order] for part, table in joined.items()})


def _suffix(path: Path) -> str | None:
    if path.name.startswith("."):
        return None
    return next((suffix for suffix in _READERS if path.name.lower().endswith(suffix)), None)


def _table(path: Path) -> Any:
    reader = _READERS[str(_suffix(path))]
    try:
        table = reader(path)
    except (OSError, ValueError) as error:
        raise InvalidConfig(f"{path} can't be read as a table: {' '.join(str(error).split())[:300]}") from None
    table.columns = [str(name) for name in table.columns]
    if repeated := [name for name, count in table.columns.value_counts().items() if count > 1]:
        raise InvalidConfig(f"{path} has the column {repeated[0]!r} twice")
    return table

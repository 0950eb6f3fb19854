"""A search and the last fit, by scikit-learn alone and by the recipe's own code: `sklearn_fit TURNS`. One core."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Read when joblib is asked for cores.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from bench.trainer.turns import Seconds, answer, in_turns
from trainwright_runtime.environment import CheckpointPolicy, DataSource, RankEnvironment
from trainwright_runtime.progress import reporter
from trainwright_sklearn.tabular import estimators
from trainwright_sklearn.tabular.board import Board
from trainwright_sklearn.tabular.config import TrainingConfig
from trainwright_sklearn.tabular.kept import KeptUnits
from trainwright_sklearn.tabular.train import prepare, run_search

GRID = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [0.0001, 0.001]}
CONFIG = TrainingConfig.model_validate({"estimator": "svm", "scale": False, "search": {"parameters": GRID, "folds": 4}})


class Search:
    """Digits as a table, eight candidates on four folds each, and the best of them on all rows; two seconds in all."""

    def __init__(self, folder: Path) -> None:
        read = RankEnvironment.read()
        self._environment = dataclasses.replace(read, data=(DataSource(name="train", builtin="digits"),))
        self._data, self._pipeline, self._search = prepare(self._environment, CONFIG)
        self._folder = folder

    def bare(self) -> Iterator[None]:
        """One for each `next`, for ever."""
        part, search = self._data.train, self._search
        grid = {f"{estimators.STEP}__{name}": values for name, values in GRID.items()}
        while True:
            found = GridSearchCV(
                clone(self._pipeline), grid, cv=search.folds, scoring=search.scoring, n_jobs=1, error_score="raise"
            )
            found.fit(part.features, part.target)
            yield

    def managed(self) -> Iterator[None]:
        """The same by the recipe, whose finished units are kept on a disk."""
        part, search = self._data.train, self._search
        for number in itertools.count():
            policy = CheckpointPolicy(directory=self._folder / str(number))
            environment = dataclasses.replace(self._environment, checkpoint=policy)
            kept = KeptUnits(environment, search.key, reporter())
            board = Board(search.units, kept.read())
            run_search(environment, search, board, kept, 1, reporter())
            pipeline, _ = search.best(search.results(board.done()))
            estimators.with_threads(pipeline, 1).fit(part.features, part.target)
            yield


def measure(turns: int) -> Seconds:
    with tempfile.TemporaryDirectory() as folder:
        both = Search(Path(folder))
        return in_turns(both.bare(), both.managed(), turns=turns, warm_up=1)


if __name__ == "__main__":
    answer(lambda: measure(int(sys.argv[1])))

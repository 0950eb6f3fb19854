"""The search as units that can be done anywhere in any order: one candidate trained without one fold, and scored on that fold.

A unit is scored by scikit-learn's own `cross_validate`, folds and candidates are scikit-learn's too; so the results are those of
GridSearchCV and RandomizedSearchCV, however many workers there are.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import sklearn
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv, cross_validate
from sklearn.pipeline import Pipeline

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.exits import say
from trainwright_runtime.tabular.data import TabularData
from trainwright_sklearn.tabular.config import Range, SearchConfig, TrainingConfig
from trainwright_sklearn.tabular.estimators import STEP, check_values

Result = Mapping[str, Any]
"""`{"score": float or None, "seconds": float}`; without a score, `error` says why the candidate can't be trained."""

WITHOUT_EFFECT_ON_SCORES = {"format", "permutation_repeats", "unit_delay_seconds"}


class Drawn:
    """A range as ParameterSampler wants it. Draws Python numbers, which JSON has words for."""

    def __init__(self, numbers: Range) -> None:
        self._numbers = numbers

    def rvs(self, random_state: np.random.RandomState) -> float | int:
        low, high, log = self._numbers.low, self._numbers.high, self._numbers.log
        is_whole = isinstance(low, int) and isinstance(high, int)
        # Half a step on either side, so that the first and the last whole number are as likely as the others.
        first, last = (low - 0.5, high + 0.5) if is_whole and not log else (low, high)
        drawn = math.exp(random_state.uniform(math.log(first), math.log(last))) if log else random_state.uniform(first, last)
        return min(max(round(drawn), int(low)), int(high)) if is_whole else float(drawn)


class Search:
    """What there is to try. Units are numbered candidate × folds + fold, from 0, alike on every worker."""

    def __init__(self, config: TrainingConfig, search: SearchConfig, data: TabularData, pipeline: Pipeline) -> None:
        self._data = data.train
        self._pipeline = pipeline
        self._delay = config.unit_delay_seconds
        self.scoring = search.scoring or data.main_metric
        _check_scoring(self.scoring, data)
        self.candidates = _candidates(search, config.seed)
        for candidate in self.candidates:
            check_values(clone(pipeline).set_params(**_of_step(candidate))[STEP], "search.parameters")
        _check_folds(search.folds, data)
        cv = check_cv(search.folds, self._data.target, classifier=data.task == "classification")
        self.folds = list(cv.split(self._data.features, self._data.target))
        self.key = _key(config, data)

    @property
    def units(self) -> range:
        """Numbers of all units."""
        return range(len(self.candidates) * len(self.folds))

    def do(self, unit: int) -> Result:
        """Train and score one unit. Safe to call from several threads."""
        candidate, fold = divmod(unit, len(self.folds))
        parameters = self.candidates[candidate]
        began = time.perf_counter()
        result: dict[str, Any] = {"score": None}
        try:
            estimator = clone(self._pipeline).set_params(**_of_step(parameters))
            scores = cross_validate(
                estimator,
                self._data.features,
                self._data.target,
                cv=[self.folds[fold]],
                scoring=self.scoring,
                error_score="raise",
            )
            score = float(scores["test_score"][0])
            result = {"score": score} if math.isfinite(score) else {"score": None, "error": f"the score is {score}"}
        except Exception as error:  # some combinations of good values exclude each other: that is a result, too
            result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            say(f"candidate {candidate} ({_shown(parameters)}) can't be trained: {result['error']}")
        time.sleep(self._delay)
        return {**result, "seconds": time.perf_counter() - began}

    def results(self, done: Mapping[int, Result]) -> dict[str, Any]:
        """The finished search, in the words and numbers of `cv_results_`; raises InvalidConfig when no candidate has a score."""
        scores = np.array([_number(done[unit]["score"]) for unit in self.units]).reshape(len(self.candidates), -1)
        means, deviations = scores.mean(axis=1), scores.std(axis=1)
        if np.isnan(means).all():
            errors = sorted({done[unit]["error"] for unit in self.units if done[unit]["score"] is None})
            raise InvalidConfig(f"no candidate of 'search' can be trained: {errors[0]}")
        # A candidate without a score comes last, behind the worst that has one.
        ranks = rankdata(-np.nan_to_num(means, nan=np.nanmin(means) - 1), method="min").astype(int)
        return {
            "params": self.candidates,
            **{f"split{fold}_test_score": scores[:, fold].tolist() for fold in range(len(self.folds))},
            "mean_test_score": means.tolist(),
            "std_test_score": deviations.tolist(),
            "rank_test_score": ranks.tolist(),
            "seconds": [sum(done[c * len(self.folds) + f]["seconds"] for f in range(len(self.folds))) for c in range(len(means))],
        }

    def best_so_far(self, done: Mapping[int, Result]) -> float | None:
        """Best mean score among the candidates all of whose folds are done."""
        width = len(self.folds)
        means = [
            sum(done[unit]["score"] for unit in units) / width
            for units in (range(first, first + width) for first in self.units[::width])
            if all(unit in done and done[unit]["score"] is not None for unit in units)
        ]
        return max(means, default=None)

    def best(self, results: Mapping[str, Any]) -> tuple[Pipeline, int]:
        """The unfitted pipeline of the best candidate, the first of equals; and the candidate's number."""
        number = results["rank_test_score"].index(min(results["rank_test_score"]))
        return clone(self._pipeline).set_params(**_of_step(self.candidates[number])), number


class Threads:
    """Threads that do units until there are none left; `units` gives the next one, or None, and `finish` takes the result."""

    def __init__(self, search: Search, count: int, take: Any, finish: Any) -> None:
        self.fault: BaseException | None = None
        self.count = 0
        self._search, self._take, self._finish = search, take, finish
        # Daemons: who is asked to stop doesn't wait for what is half done.
        self._threads = [threading.Thread(target=self._work, name=f"unit-{number}", daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def are_busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        try:
            while (unit := self._take()) is not None:
                self._finish(unit, self._search.do(unit))
                self.count += 1
        except BaseException as fault:  # the main thread raises it: it alone can end the process
            self.fault = fault


def _candidates(search: SearchConfig, seed: int) -> list[dict[str, Any]]:
    if search.kind == "grid":
        return list(ParameterGrid(dict(search.parameters)))
    drawn = {name: Drawn(values) if isinstance(values, Range) else values for name, values in search.parameters.items()}
    if not any(isinstance(values, Drawn) for values in drawn.values()) and search.iterations > (
        size := len(ParameterGrid(drawn))
    ):
        raise InvalidConfig(
            f"key 'search.iterations' has the value {search.iterations}, and there are {size} combinations; accepted: at most "
            "that, or kind: grid"
        )
    return list(ParameterSampler(drawn, search.iterations, random_state=seed))


def _check_scoring(name: str, data: TabularData) -> None:
    if name not in get_scorer_names():
        close = difflib.get_close_matches(name, get_scorer_names(), n=3) or ["accuracy", "f1_macro", "r2"]
        raise InvalidConfig(f"key 'search.scoring' has the value {name!r}, which is no scorer; near it: {', '.join(close)}")
    guess = DummyClassifier() if data.task == "classification" else DummyRegressor()
    part = data.train
    try:
        get_scorer(name)(guess.fit(part.features, part.target), part.features, part.target)
    except Exception as error:  # each scorer has words of its own
        raise InvalidConfig(
            f"key 'search.scoring' has the value {name!r}, which can't score {data.task} of {data.target!r}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from None


def _check_folds(folds: int, data: TabularData) -> None:
    target = data.train.target
    if folds > len(target):
        raise InvalidConfig(f"key 'search.folds' has the value {folds}, and the training part has {len(target)} rows")
    for one in data.classes:
        if (count := int((target == one).sum())) < folds:
            raise InvalidConfig(
                f"key 'search.folds' has the value {folds}, and class {one!r} has {count} rows in the training part; accepted: 2 "
                f"to {count}, or more rows of it"
            )


def _key(config: TrainingConfig, data: TabularData) -> str:
    settings = config.model_dump(mode="json", exclude=WITHOUT_EFFECT_ON_SCORES)
    about = {"settings": settings, "data": data.fingerprint, "sklearn": sklearn.__version__}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _of_step(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{STEP}__{name}": value for name, value in parameters.items()}


def _shown(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _number(score: float | None) -> float:
    return math.nan if score is None else score

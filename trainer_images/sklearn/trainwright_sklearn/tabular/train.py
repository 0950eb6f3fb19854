"""Trains a model of scikit-learn on a table, from top to bottom: data, search, fit, measure, save.

A search is the one part that workers share: worker 0 hands out its units and does some itself, the others do units until there
are none left. All else is worker 0's. What is finished is kept (`kept.py`), so a gang that is killed does no unit twice.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import Any, NoReturn

import joblib
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, PeerLost, leave, say
from trainwright_runtime.progress import Reporter, reporter
from trainwright_runtime.startup import FIRST_STEP, STARTUP
from trainwright_runtime.tabular.data import TabularData, load
from trainwright_runtime.tabular.report import named
from trainwright_sklearn.tabular import artifacts, estimators
from trainwright_sklearn.tabular.board import Board, serve
from trainwright_sklearn.tabular.config import TrainingConfig
from trainwright_sklearn.tabular.kept import KeptUnits
from trainwright_sklearn.tabular.measure import measured
from trainwright_sklearn.tabular.peer import WorkerZero
from trainwright_sklearn.tabular.search import Search, Threads

LOOK_SECONDS = 0.5
FAREWELL_SECONDS = 300.0
"""How long worker 0 stays for workers that have not come yet: they would take its silence for its death."""


def train(environment: RankEnvironment, config: TrainingConfig) -> None:
    """The whole training of one worker."""
    signal.signal(signal.SIGTERM, _leave_when_asked)
    progress = reporter()
    threads = joblib.cpu_count()

    # --- data ---------------------------------------------------------------------------------------------------------
    try:
        data, pipeline, search = prepare(environment, config)
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))
    if environment.is_main:
        columns = f"{len(data.numeric)} columns of numbers, {len(data.categorical)} of words"
        say(f"{data.task} of {data.target!r} by {config.estimator}: {data.sizes} rows; {columns}")

    # --- search -------------------------------------------------------------------------------------------------------
    STARTUP.begins(FIRST_STEP)
    if search is not None and not environment.is_main:
        help_worker_zero(environment, search, threads, progress)
        return
    total = 1 + (len(search.units) if search is not None else 0)
    main_metric = f"val_{data.main_metric}"
    progress.report(total_steps=total, main_metric=main_metric if search is None else "best_score")
    found: dict[str, Any] | None = None
    board: Board | None = None
    if search is not None:
        kept = KeptUnits(environment, search.key, progress)
        board = Board(search.units, kept.read())
        run_search(environment, search, board, kept, threads, progress)
        try:
            found = search.results(board.done())
        except InvalidConfig as error:
            leave(Exit.INVALID_CONFIG, str(error))
        pipeline, number = search.best(found)
        score = found["mean_test_score"][number]
        say(f"best of {len(search.candidates)}: {search.candidates[number]}, {search.scoring} {score:.4f}")

    # --- fit ----------------------------------------------------------------------------------------------------------
    progress.expect_silence()
    began = time.perf_counter()
    model: Pipeline = estimators.with_threads(pipeline, threads).fit(data.train.features, data.train.target)
    # Who predicts a few rows at a time is slower with threads than without.
    estimators.with_threads(model, 1)
    progress.report(step=total, samples=len(data.train), main_metric=main_metric)
    say(f"fitted to {len(data.train)} rows in {time.perf_counter() - began:.1f} s")

    # --- measure and save ---------------------------------------------------------------------------------------------
    validation, test = measured(model, data, data.validation), measured(model, data, data.test)
    metrics = named(test["metrics"], validation["metrics"])
    if found is not None:
        first, *others = metrics
        metrics = {first: metrics[first], "best_score": score, **{name: metrics[name] for name in others}}
    progress.report(metrics=metrics)
    path = artifacts.save(environment, config, data, model, steps=total, metrics=metrics, test=test, search=search, found=found)
    say(f"{', '.join(f'{name} {value:.4f}' for name, value in list(metrics.items())[:2])}; model and report in {path}")
    if board is not None and (absent := board.wait_until_told(environment.workers, FAREWELL_SECONDS)):
        raise PeerLost(f"all is done, and worker {absent[0]} has never come")


def prepare(environment: RankEnvironment, config: TrainingConfig) -> tuple[TabularData, Pipeline, Search | None]:
    """What is to be learned, by what, and what is to be tried; raises InvalidConfig before anything is trained."""
    if config.search is None and environment.workers > 1:
        raise InvalidConfig(f"spec.workers is {environment.workers}, and without 'search' there is nothing to share; accepted: 1")
    data = load(environment.data, config)
    pipeline = estimators.build(config, data)
    search = Search(config, config.search, data, pipeline) if config.search is not None else None
    return data, pipeline, search


def run_search(
    environment: RankEnvironment, search: Search, board: Board, kept: KeptUnits, threads: int, progress: Reporter
) -> None:
    """Worker 0: hand out the units and do some, until all are done; keep what is finished, also on the way out."""
    there = len(board.done())
    if there:
        say(f"resumed: {there} of {len(search.units)} units were done before")
    if environment.workers > 1:
        serve(board, environment, search.key)
    own = Threads(
        search,
        _sharing_cores(threads),
        take=lambda: board.take_or_wait(environment.worker_index, threading.current_thread().name),
        finish=board.finish,
    )
    try:
        while not board.is_over:
            board.wait_for_change(LOOK_SECONDS)
            board.give_up_silent()
            done = board.done()
            best = search.best_so_far(done)
            progress.report(
                step=len(done) if len(done) > there else None, metrics={"best_score": best} if best is not None else None
            )
            kept.write(done)
            if own.fault is not None:
                raise own.fault
    finally:
        kept.write(board.done(), at_once=True)
        say(f"worker 0 did {own.count} units")
    progress.report(step=len(search.units))


def help_worker_zero(environment: RankEnvironment, search: Search, threads: int, progress: Reporter) -> None:
    """Every other worker: do units of worker 0's until all are done."""
    zero = WorkerZero(environment, search.key)
    own = Threads(search, _sharing_cores(threads), take=zero.take, finish=zero.finish)
    progress.report(total_steps=len(search.units))
    try:
        while own.are_busy:
            zero.stay_alive()
            progress.report(step=zero.done)
            if own.fault is not None:
                raise own.fault
        if own.fault is not None:
            raise own.fault
        say(f"worker {environment.worker_index} did {own.count} units")
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))


def _sharing_cores(threads: int) -> int:
    """Units done side by side, one a core; the libraries below must not take every core for each of them."""
    if threads > 1:
        threadpool_limits(1)
    return threads


def _leave_when_asked(_signal: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leave(Exit.TERMINATED, "asked to stop: finished units are kept")

"""A search shared by workers: the numbers are scikit-learn's own, and nothing that happens to a worker shows in them."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launching import Gang, Worker, builtin, free_port, wait_for
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import CheckpointPolicy, DataSource, RankEnvironment
from trainwright_runtime.exits import PeerLost
from trainwright_runtime.progress import Reporter
from trainwright_runtime.tabular.data import TabularData
from trainwright_sklearn.tabular import board as boards
from trainwright_sklearn.tabular.board import Board, serve
from trainwright_sklearn.tabular.config import TrainingConfig
from trainwright_sklearn.tabular.kept import KeptUnits
from trainwright_sklearn.tabular.peer import WorkerZero
from trainwright_sklearn.tabular.search import Search
from trainwright_sklearn.tabular.train import prepare

RECIPE = ("recipe", "tabular")
GRID = "{estimator: tree, search: {parameters: {max_depth: [2, 3, 5, 8], min_samples_leaf: [1, 4, 16]}, folds: 5}, permutation_repeats: 0%s}"  # noqa: E501
UNITS = 60


def planned(table: str, **config: Any) -> tuple[TabularData, Any, Search]:
    environment = RankEnvironment(data=(DataSource(name="train", builtin=table),))
    data, pipeline, search = prepare(environment, TrainingConfig.model_validate(config))
    assert search is not None
    return data, pipeline, search


def done_by_hand(search: Search, order: Any = None) -> dict[str, Any]:
    return search.results({int(unit): search.do(int(unit)) for unit in (search.units if order is None else order)})


def kept(gang: Gang) -> dict[str, Any]:
    """What is kept of the search, over all attempts."""
    units: dict[str, Any] = {}
    for path in sorted((gang.workspace / "checkpoints").glob("search-*/attempt-*.json")):
        units |= json.loads(path.read_text())["units"]
    return units


def units_done(worker: Worker, least: int) -> bool:
    assert worker.process.poll() is None, worker.output
    return worker.progress().get("step", 0) >= least


# --- the numbers are scikit-learn's -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "config"),
    [
        ("iris", {"estimator": "tree", "search": {"parameters": {"max_depth": [1, 2, 4], "criterion": ["gini", "entropy"]}}}),
        ("diabetes", {"estimator": "lasso", "search": {"parameters": {"alpha": [0.01, 1, 100]}, "folds": 4, "scoring": "neg_mean_absolute_error"}}),  # noqa: E501
        ("wine", {"estimator": "forest", "search": {"kind": "random", "iterations": 4, "parameters": {"n_estimators": [5, 10, 20], "max_depth": [2, 3, None]}, "scoring": "f1_macro"}}),  # noqa: E501
    ],
    ids=["a grid of classes", "a grid of numbers", "drawn at random"],
)  # fmt: skip
def test_results_are_those_of_scikit_learn_s_own_search(table: str, config: dict[str, Any]) -> None:
    data, pipeline, search = planned(table, **config)
    order = np.random.default_rng(0).permutation(len(search.units))
    ours = done_by_hand(search, order)
    asked = config["search"]
    space = {f"model__{name}": values for name, values in asked["parameters"].items()}
    common = {"scoring": search.scoring, "cv": asked.get("folds", 5)}
    if asked.get("kind") == "random":
        theirs = RandomizedSearchCV(clone(pipeline), space, n_iter=asked["iterations"], random_state=0, **common)
    else:
        theirs = GridSearchCV(clone(pipeline), space, **common)
    theirs.fit(data.train.features, data.train.target)
    assert [{f"model__{name}": value for name, value in one.items()} for one in ours["params"]] == theirs.cv_results_["params"]
    for column, values in ours.items():
        if column.endswith("test_score"):
            np.testing.assert_array_equal(values, theirs.cv_results_[column], err_msg=column)
    best, number = search.best(ours)
    assert number == theirs.best_index_
    assert {name: best.get_params()[name] for name in theirs.best_params_} == theirs.best_params_


def test_a_candidate_that_cannot_be_trained_comes_last_and_is_not_the_end() -> None:
    _, _, search = planned(
        "iris", estimator="logistic", search={"parameters": {"solver": ["lbfgs", "liblinear"], "C": [1.0]}, "folds": 2}
    )
    done = {unit: search.do(unit) for unit in search.units}
    for unit in (2, 3):
        done[unit] = {"score": None, "error": "ValueError: this solver can't", "seconds": 0.0}
    results = search.results(done)
    assert results["rank_test_score"] == [1, 2]
    assert np.isnan(results["mean_test_score"][1])
    nothing = {unit: {"score": None, "error": "ValueError: no", "seconds": 0.0} for unit in search.units}
    with pytest.raises(ValueError, match="no candidate of 'search' can be trained: ValueError: no"):
        search.results(nothing)


def test_ranges_are_drawn_within_their_bounds_and_the_same_each_time() -> None:
    config = {
        "estimator": "boosting",
        "search": {
            "kind": "random",
            "iterations": 60,
            "parameters": {
                "learning_rate": {"low": 0.001, "high": 1.0, "log": True},
                "max_leaf_nodes": {"low": 2, "high": 4},
                "max_iter": {"low": 1, "high": 100, "log": True},
            },
        },
    }
    _, _, search = planned("iris", **config)
    rates = [one["learning_rate"] for one in search.candidates]
    assert all(0.001 <= rate <= 1 for rate in rates)
    assert sum(rate < 0.03 for rate in rates) > 15, "evenly in the logarithm"
    assert {one["max_leaf_nodes"] for one in search.candidates} == {2, 3, 4}
    assert all(isinstance(one["max_iter"], int) and 1 <= one["max_iter"] <= 100 for one in search.candidates)
    assert planned("iris", **config)[2].candidates == search.candidates
    json.dumps(search.candidates)


# --- any number of workers, and what happens to them ------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The report of the search done by one worker, undisturbed."""
    gang = Gang(tmp_path_factory.mktemp("alone"))
    (worker,) = gang.start(*RECIPE, config=GRID % "", TRAINWRIGHT_DATA=builtin("breast_cancer"), LOKY_MAX_CPU_COUNT="1")
    assert worker.wait() == 0, worker.output
    assert len(kept(gang)) == UNITS
    yield gang.report()
    gang.end()


def assert_same_search(gang: Gang, alone: dict[str, Any]) -> None:
    found = gang.report()
    assert found["tables"] == alone["tables"]
    assert found["metrics"] == alone["metrics"]


def test_two_workers_without_a_shared_disk_find_what_one_finds(gang: Gang, alone: dict[str, Any]) -> None:
    """Worker 1 has a workspace of its own, as with object storage."""
    options = {"config": GRID % ", unit_delay_seconds: 0.05", "workers": 2, "TRAINWRIGHT_DATA": builtin("breast_cancer")}
    options |= {"LOKY_MAX_CPU_COUNT": "1", "MASTER_PORT": str(free_port())}
    own_disk = {
        f"TRAINWRIGHT_{name}": str(gang.folder / "other" / name) for name in ("WORKSPACE", "CHECKPOINT_DIR", "ARTIFACT_DIR")
    }
    (zero,) = gang.start(*RECIPE, only=(0,), **options)
    address = zero.address.removeprefix("http://").partition(":")[0]
    (one,) = gang.start(*RECIPE, only=(1,), **options, **own_disk, MASTER_ADDR=address)
    assert [zero.wait(), one.wait()] == [0, 0], zero.output + one.output
    assert_same_search(gang, alone)
    assert len(kept(gang)) == UNITS
    assert not (gang.folder / "other" / "ARTIFACT_DIR").exists(), "one worker writes"
    shares = re.findall(r"worker (\d) did (\d+) units", zero.output + one.output)
    assert {worker for worker, count in shares if int(count) > 0} == {"0", "1"}
    assert sum(int(count) for _, count in shares) == UNITS, "none twice"


def test_killed_and_resumed_does_no_finished_unit_again(gang: Gang, alone: dict[str, Any]) -> None:
    """Worker 1 is killed, worker 0 is asked to stop as the operator does; then worker 0 is killed outright."""
    slow = {"config": GRID % ", unit_delay_seconds: 0.25", "workers": 2, "TRAINWRIGHT_DATA": builtin("breast_cancer")}
    workers = gang.start(*RECIPE, **slow, LOKY_MAX_CPU_COUNT="1")
    wait_for(lambda: units_done(workers[0], 6), "6 units")
    os.kill(workers[1].ranks()[0], signal.SIGKILL)
    assert workers[1].wait() == 137
    workers[0].process.terminate()
    assert workers[0].wait() == 143
    assert workers[0].message["cause"] == "Terminated"
    first = kept(gang)
    assert 6 <= len(first) < UNITS

    workers = gang.start(*RECIPE, attempt=2, **slow, LOKY_MAX_CPU_COUNT="1")
    wait_for(lambda: units_done(workers[0], len(first) + 4) and len(kept(gang)) >= len(first) + 4, "4 more units")
    assert workers[0].progress()["resumedFrom"] == len(first)
    os.kill(workers[0].ranks()[0], signal.SIGKILL)
    assert workers[0].wait() == 137
    workers[1].process.terminate()
    assert workers[1].wait() == 143
    second = kept(gang)
    assert second.items() >= first.items(), "to the hundredth of a second: what was done before was not done again"

    workers = gang.start(*RECIPE, attempt=3, **{**slow, "config": GRID % ""}, LOKY_MAX_CPU_COUNT="1")
    assert [worker.wait() for worker in workers] == [0, 0], "\n".join(worker.output for worker in workers)
    assert workers[0].message["progress"]["resumedFrom"] == len(second)
    assert kept(gang).items() >= second.items()
    assert_same_search(gang, alone)


def test_a_worker_whose_worker_zero_is_gone_says_so(gang: Gang) -> None:
    (worker,) = gang.start(
        *RECIPE, config=GRID % "", workers=2, only=(1,), TRAINWRIGHT_DATA=builtin("iris"), options=("--peer-timeout", "3")
    )
    assert worker.wait() == 66
    assert "worker 0" in worker.message["message"]


# --- what is kept -----------------------------------------------------------------------------------------------------


def keeper(folder: Path, key: str = "k", **changes: Any) -> KeptUnits:
    policy = CheckpointPolicy(directory=folder, resume=changes.pop("resume", "Auto"))
    environment = RankEnvironment(checkpoint=policy, **{"uid": "u", "attempt": 1, **changes})
    return KeptUnits(environment, key, Reporter(rank=0, path=None))


def test_units_are_kept_by_search_attempt_and_job(tmp_path: Path) -> None:
    keeper(tmp_path).write({1: {"score": 0.5}})
    assert keeper(tmp_path, attempt=2).read() == {1: {"score": 0.5}}
    keeper(tmp_path, attempt=2).write({1: {"score": 0.5}, 7: {"score": 0.25}})
    assert set(keeper(tmp_path, attempt=3).read()) == {1, 7}
    assert keeper(tmp_path, key="another").read() == {}, "a changed configuration starts anew"
    assert keeper(tmp_path, resume="Never").read() == {}
    assert set(keeper(tmp_path, resume="Never", attempt=2).read()) == {1, 7}
    assert keeper(tmp_path, resume="Never", attempt=2, uid="another job").read() == {}
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_damaged_file_of_units_is_named(tmp_path: Path) -> None:
    keeper(tmp_path).write({1: {"score": 0.5}})
    (path,) = tmp_path.glob("search-*/attempt-1.json")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(SystemExit) as left:
        keeper(tmp_path, attempt=2).read()
    assert left.value.code == 65


def test_what_scores_depend_on_names_the_search_and_nothing_else_does() -> None:
    base: dict[str, Any] = {"estimator": "tree", "search": {"parameters": {"max_depth": [1, 2]}}}
    key = planned("iris", **base)[2].key
    assert planned("iris", **base, permutation_repeats=0, format="joblib", unit_delay_seconds=1)[2].key == key
    assert planned("wine", **base)[2].key != key
    assert planned("iris", **base, seed=1)[2].key != key
    assert planned("iris", estimator="tree", search={"parameters": {"max_depth": [1, 3]}})[2].key != key


# --- who does what ----------------------------------------------------------------------------------------------------


@pytest.fixture
def table_of_two() -> Iterator[Callable[..., tuple[Board, WorkerZero]]]:
    """A board that is served, and another worker's view of it."""
    servers = []

    def made(units: int = 4, search: str = "s", attempt: int = 1) -> tuple[Board, WorkerZero]:
        board = Board(range(units), {})
        zero = RankEnvironment(uid="u", workers=2, pod_ip="127.0.0.1", master_port=0)
        server = serve(board, zero, "s")
        servers.append(server)
        one = RankEnvironment(uid="u", workers=2, worker_index=1, attempt=attempt, master_port=server.server_address[1])
        return board, WorkerZero(one, search)

    yield made
    for server in servers:
        server.shutdown()
        server.server_close()


def test_every_unit_is_handed_out_once_and_the_end_is_told(table_of_two: Callable[..., tuple[Board, WorkerZero]]) -> None:
    board, zero = table_of_two(units=40)
    seen: list[int] = []

    def work(take: Callable[[], int | None], finish: Callable[[int, Any], None]) -> None:
        while (unit := take()) is not None:
            seen.append(unit)
            finish(unit, {"score": float(unit)})

    slots = [threading.Thread(target=work, args=(zero.take, zero.finish), name=f"unit-{number}") for number in range(3)]
    slots.append(threading.Thread(target=work, args=(lambda: board.take_or_wait(0, "unit-0"), board.finish)))
    for slot in slots:
        slot.start()
    for slot in slots:
        slot.join(30)
        assert not slot.is_alive()
    assert sorted(seen) == list(range(40))
    assert board.done()[7] == {"score": 7.0}
    assert board.wait_until_told(2, 0) == []


def test_an_answer_that_was_lost_is_given_again(table_of_two: Callable[..., tuple[Board, WorkerZero]]) -> None:
    board, _ = table_of_two()
    assert board.take(1, "unit-0") == board.take(1, "unit-0") == 0
    assert board.take(1, "unit-1") == 1
    board.finish(0, {})
    assert board.take(1, "unit-0") == 2


def test_units_of_a_worker_that_is_gone_are_done_by_others(monkeypatch: pytest.MonkeyPatch, table_of_two: Any) -> None:
    board, zero = table_of_two(units=2)
    assert zero.take() == 0
    assert board.take(0, "unit-0") == 1
    board.finish(1, {})
    assert board.take(0, "unit-0") is None
    monkeypatch.setattr(boards, "SILENT_SECONDS", 0.0)
    time.sleep(0.001)
    board.give_up_silent()
    assert board.take(0, "unit-0") == 0
    assert board.wait_until_told(2, 0) == [], "nobody waits for it at the end"


@pytest.mark.parametrize(
    ("asked", "raised", "said"),
    [
        ({"attempt": 2}, PeerLost, "this is u-1: u-2 is over"),
        ({"search": "other"}, InvalidConfig, "this worker's search is other, worker 0's is s: their data differ"),
    ],
    ids=["another attempt", "another search"],
)
def test_who_does_not_belong_to_the_gang_is_refused(
    table_of_two: Any, asked: dict[str, Any], raised: type[Exception], said: str
) -> None:
    board, zero = table_of_two(**asked)
    with pytest.raises(raised) as refusal:
        zero.take()
    assert said in str(refusal.value)
    assert board.take(0, "unit-0") == 0

"""From raw pods to facts: states, waiting lines, failures with evidence, progress read with care."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import job
from support.pods import ended, running, unschedulable, waiting
from trainwright.api.causes import Cause
from trainwright.observe.observed import observe
from trainwright.observe.progress import MAX_METRICS, read_final_words, read_progress
from trainwright.observe.times import rfc3339, seconds
from trainwright.observe.workers import Worker, WorkerState, observe_worker, one_line
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings


def pod(index: int = 0) -> dict[str, Any]:
    made = worker_pod(job().workers(2).typed(), index, Settings())
    made["metadata"]["uid"] = "u"
    made["status"] = {"phase": "Pending"}
    return made


def seen(raw: dict[str, Any]) -> Worker:
    worker = observe_worker(raw)
    assert worker is not None
    return worker


def test_a_pod_without_our_labels_is_not_a_worker() -> None:
    raw = pod()
    raw["metadata"]["labels"]["trainwright.dev/worker-index"] = "first"
    assert observe_worker(raw) is None
    del raw["metadata"]["labels"]
    assert observe_worker(raw) is None


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        pytest.param(pod(), WorkerState.PENDING, id="new"),
        pytest.param(running(pod()), WorkerState.RUNNING, id="running"),
        pytest.param(ended(pod(), 0), WorkerState.SUCCEEDED, id="done"),
        pytest.param(ended(pod(), 1), WorkerState.FAILED, id="failed"),
        pytest.param(
            {**pod(), "status": {"phase": "Failed", "reason": "Evicted"}}, WorkerState.FAILED, id="evicted without a container"
        ),
        pytest.param({**pod(), "status": {"phase": "Succeeded"}}, WorkerState.SUCCEEDED, id="done, container forgotten"),
        pytest.param({**pod(), "status": {"phase": "Unknown"}}, WorkerState.PENDING, id="unknown"),
    ],
)
def test_states(raw: dict[str, Any], state: WorkerState) -> None:
    assert seen(raw).state is state


def test_a_container_s_end_is_known_before_the_pod_s_phase_follows() -> None:
    raw = ended(pod(), 3)
    raw["status"]["phase"] = "Running"
    assert seen(raw).state is WorkerState.FAILED


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        pytest.param(waiting(pod(), reason="ContainerCreating"), "", id="being made is nothing to tell"),
        pytest.param(waiting(pod(), reason="ImagePullBackOff", message="Back-off\n pulling  image x"), "ImagePullBackOff: Back-off pulling image x", id="folded"),
        pytest.param(waiting(pod(), reason="ErrImagePull"), "ErrImagePull", id="a reason without a message"),
        pytest.param(unschedulable(pod(), "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes …"), "0/1 nodes are available: 1 Insufficient cpu.", id="the scheduler, without its search for victims"),
    ],
)  # fmt: skip
def test_waiting_is_one_line(raw: dict[str, Any], line: str) -> None:
    assert seen(raw).waiting == line


@pytest.mark.parametrize(
    ("raw", "cause", "text"),
    [
        pytest.param(ended(pod(), 1, message="Traceback\nValueError: x"), Cause.ERROR, "exited with code 1: ValueError: x", id="the end of a log"),
        pytest.param(ended(pod(), 137), Cause.KILLED, "was killed by signal 9", id="SIGKILL"),
        pytest.param(ended(pod(), 137, reason="OOMKilled"), Cause.OOM_KILLED, "ran out of memory (OOMKilled)", id="out of memory"),
        pytest.param(ended(pod(), 137, reason="ContainerStatusUnknown"), Cause.NODE_LOST, "was lost with its node", id="forgotten by its node"),
        pytest.param(ended(pod(), 67, message={"cause": "Hung", "rank": 0, "message": "rank 0 has reported nothing for 62 s"}), Cause.HUNG, "rank 0 in digits-a1-worker-0 hung: rank 0 has reported nothing for 62 s", id="hung"),
        pytest.param(ended(pod(), 66, message={"cause": "Preflight", "rank": 0, "message": "no name"}), Cause.PREFLIGHT, "rank 0 in digits-a1-worker-0 exited with code 66: no name", id="pre-flight"),
        pytest.param(ended(pod(), 143, message={"cause": "Terminated", "rank": 0}), Cause.TERMINATED, "killed by signal 15", id="asked to stop by somebody else"),
        pytest.param(ended(pod(), 64, message={"cause": "Error", "rank": 0}), Cause.ERROR, "exited with code 64", id="a program's own 64 under our launcher"),
        pytest.param({**pod(), "status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}}, Cause.EVICTED, "was evicted: The node was low on memory", id="evicted"),
        pytest.param({**pod(), "status": {"phase": "Failed", "reason": "NodeLost"}}, Cause.NODE_LOST, "was lost with its node", id="lost"),
    ],
)  # fmt: skip
def test_failures_have_a_cause_and_a_sentence(raw: dict[str, Any], cause: Cause, text: str) -> None:
    failure = seen(raw).failure
    assert failure is not None
    assert failure.cause is cause
    assert text in str(failure)


def test_a_deleted_pod_s_end_is_the_deletion_s_doing() -> None:
    raw = ended(pod(), 143)
    raw["metadata"]["deletionTimestamp"] = "2026-11-21T09:02:00Z"
    failure = seen(raw).failure
    assert failure is not None
    assert failure.cause is Cause.DELETED
    assert failure.cause.infrastructure


@given(st.text(), st.integers(min_value=1, max_value=255))
def test_no_termination_message_breaks_the_reading(message: str, code: int) -> None:
    assert seen(ended(pod(), code, message=message or "x")).failure is not None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_progress_breaks_the_reading(raw: Any) -> None:
    said = read_progress(
        {"step": raw, "metrics": raw, "checkpoint": raw, "totalSteps": raw, "mainMetric": raw, "etaSeconds": raw}
    )
    assert said is not None
    json.dumps([said.metrics, said.step, said.percent, said.summary, said.main], allow_nan=False)


def test_progress_is_bounded_and_finite() -> None:
    raw = {"step": 5, "metrics": {f"m{number}": 1.0 for number in range(100)} | {"bad": float("nan"), "text": "x"}}
    said = read_progress(raw)
    assert said is not None
    assert len(said.metrics) == MAX_METRICS
    assert said.summary == "5"
    assert read_progress("text") is None
    assert read_progress(None) is None


def test_last_words_of_a_success() -> None:
    said = read_final_words(json.dumps({"progress": {"step": 9, "totalSteps": 9, "metrics": {"acc": 1.0}}}))
    assert said is not None
    assert (said.summary, said.main) == ("9/9 (100%)", "acc=1")
    assert read_final_words("Finished!") is None
    assert read_final_words("[1]") is None


def test_of_an_earlier_job_s_things_only_the_claim_counts() -> None:
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "status": {"phase": "Bound"}}
    service = {"kind": "Service", "metadata": {"name": "s", "ownerReferences": [{"uid": "another"}]}}
    observed = observe(uid="mine", pods=[], children=[claim, service])
    assert list(observed.children) == [("PersistentVolumeClaim", "c")]


def test_times() -> None:
    assert seconds("2026-11-21T09:00:00Z") == 1795251600.0
    assert rfc3339(1795251600.9) == "2026-11-21T09:00:00Z"
    assert seconds(None) is None
    assert seconds("yesterday") is None
    assert one_line("x" * 500).endswith("…")


@pytest.mark.parametrize(
    ("first", "state", "waiting"),
    [
        (
            {"running": {"startedAt": "2026-11-21T09:00:00Z"}},
            WorkerState.PENDING,
            "fetching data and checkpoints into the workspace",
        ),
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            WorkerState.PENDING,
            "ImagePullBackOff: no such image",
        ),
        ({"terminated": {"exitCode": 0}}, WorkerState.PENDING, ""),
        ({"terminated": {"exitCode": 1, "message": "gone"}}, WorkerState.FAILED, ""),
    ],
)
def test_the_step_before_the_worker_is_heard_until_it_is_over(first: dict[str, Any], state: WorkerState, waiting: str) -> None:
    pod = worker_pod(job().spec(data=[{"name": "train", "uri": "s3://b/x"}]).typed(), 0, Settings())
    pod["status"] = {
        "phase": "Pending",
        "initContainerStatuses": [{"name": "fetch", "state": first}],
        "containerStatuses": [{"name": "worker", "state": {"waiting": {"reason": "PodInitializing"}}}],
    }
    worker = observe_worker(pod)
    assert worker is not None
    assert (worker.state, worker.waiting) == (state, waiting)
    assert (worker.failure is not None) is (state is WorkerState.FAILED)
    if worker.failure is not None:
        assert worker.failure.message == "gone"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"rank": 3, "ratio": 2.13}, "rank 3 takes 2.1 times as long as the others for its part of a step"),
        (None, None),
        ({"rank": "3", "ratio": 2.0}, None),
        ({"rank": 3, "ratio": float("nan")}, None),
        ("rank 3", None),
    ],
)
def test_a_straggler_is_named_in_words(raw: Any, said: str | None) -> None:
    progress = read_progress({"step": 1, "straggler": raw})
    assert progress is not None
    assert progress.straggler == said

"""The planner's decisions, one table or story each. Pure: no clock, no cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from support.builders import JobBuilder, job
from support.pods import ended, running, unschedulable, waiting
from trainwright.api.job import TrainingJob, parse
from trainwright.api.status import ConditionType, Phase
from trainwright.observe.observed import Observed, observe
from trainwright.observe.progress import TrainingProgress
from trainwright.observe.times import rfc3339
from trainwright.plan import backoff
from trainwright.plan.accounting import so_far
from trainwright.plan.children import wanted
from trainwright.plan.plan import plan
from trainwright.plan.pods import worker_pod
from trainwright.plan.prices import Prices
from trainwright.plan.types import Plan, Settings
from trainwright.schedulers.base import Admission, State

NOW = 1795254000.0
SETTINGS = Settings()


def pods_of(typed: TrainingJob) -> list[dict[str, Any]]:
    """The gang's pods as the API would keep them."""
    pods = [worker_pod(typed, index, SETTINGS) for index in range(typed.spec.workers)]
    for pod in pods:
        pod["metadata"]["uid"] = f"uid-{pod['metadata']['name']}"
        pod["status"] = {"phase": "Pending"}
    return pods


def see(typed: TrainingJob, pods: list[dict[str, Any]], progress: TrainingProgress | None = None) -> Observed:
    return observe(uid=typed.uid, pods=pods, children=wanted(typed, SETTINGS), progress=progress)


def after(builder: JobBuilder, decided: Plan) -> TrainingJob:
    """The job once the plan's status is written."""
    return parse(builder.stored(status=decided.status.wire()))


def created(builder: JobBuilder) -> tuple[TrainingJob, list[dict[str, Any]]]:
    """A job whose first pass has been carried out."""
    typed = builder.typed()
    typed = after(builder, plan(typed, see(typed, []), NOW, SETTINGS))
    return typed, pods_of(typed)


def next_attempt(builder: JobBuilder, typed: TrainingJob, pods: list[dict[str, Any]]) -> TrainingJob:
    return after(builder, plan(typed, see(typed, pods), NOW, SETTINGS))


def test_the_first_pass_creates_the_whole_gang_and_everything_it_needs() -> None:
    typed = job().workers(2).typed()
    decided = plan(typed, Observed(), NOW, SETTINGS)
    assert [child["kind"] for child in decided.make] == ["Service", "PersistentVolumeClaim"]
    assert [pod["metadata"]["name"] for pod in decided.create] == ["digits-a1-worker-0", "digits-a1-worker-1"]
    assert decided.status.phase is Phase.QUEUED
    assert decided.status.reason == "2 of 2 workers not scheduled yet"
    assert decided.status.workers is not None
    assert decided.status.workers.ready == "0/2"


def test_a_claim_outlives_the_job_and_everything_else_goes_with_it() -> None:
    decided = plan(job().workers(2).typed(), Observed(), NOW, SETTINGS)
    owned = {obj["kind"]: "ownerReferences" in obj["metadata"] for obj in (*decided.make, *decided.create)}
    assert owned == {"Service": True, "PersistentVolumeClaim": False, "Pod": True}


def test_carrying_a_plan_out_and_planning_again_gives_an_empty_plan() -> None:
    typed, pods = created(job().workers(3))
    decided = plan(typed, see(typed, pods), NOW, SETTINGS)
    assert decided.empty
    assert decided.status == typed.status


def test_a_pod_that_was_not_created_is_created_without_touching_the_others() -> None:
    builder = job().workers(3)
    typed = builder.typed()
    decided = plan(typed, see(typed, pods_of(typed)[:2]), NOW, SETTINGS)
    assert [pod["metadata"]["name"] for pod in decided.create] == ["digits-a1-worker-2"]
    assert not decided.delete


@pytest.mark.parametrize(
    ("states", "phase", "reason"),
    [
        pytest.param(
            [lambda pod: unschedulable(pod, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")] * 2,
            Phase.QUEUED,
            "2 of 2 workers wait: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            id="the scheduler's words are the reason while no node has room",
        ),
        pytest.param(
            [running, lambda pod: unschedulable(pod, "0/1 nodes are available: 1 Insufficient cpu.")],
            Phase.QUEUED,
            "1 of 2 workers wait: 0/1 nodes are available: 1 Insufficient cpu.",
            id="one worker without a node keeps the job queued",
        ),
        pytest.param(
            [running, lambda pod: waiting(pod, reason="ContainerCreating")],
            Phase.STARTING,
            "1 of 2 workers starting",
            id="all have nodes and one container is being made",
        ),
        pytest.param(
            [running, lambda pod: waiting(pod, reason="CreateContainerConfigError", message='configmap "code" not found')],
            Phase.STARTING,
            '1 of 2 workers wait: CreateContainerConfigError: configmap "code" not found',
            id="a missing config map is named",
        ),
        pytest.param([running, running], Phase.RUNNING, None, id="running means every worker runs"),
        pytest.param(
            [lambda pod: ended(pod, 0), running], Phase.RUNNING, None, id="a worker that ends early doesn't end the job"
        ),
    ],
)
def test_phase_and_reason_follow_the_slowest_worker(states: list[Any], phase: Phase, reason: str | None) -> None:
    typed, pods = created(job().workers(2))
    decided = plan(typed, see(typed, [make(pod) for make, pod in zip(states, pods, strict=True)]), NOW, SETTINGS)
    assert (decided.status.phase, decided.status.reason) == (phase, reason)
    assert not decided.create
    assert not decided.delete


def test_all_workers_done_is_success_with_the_last_words_of_rank_zero() -> None:
    typed, pods = created(job().workers(2))
    words = {"progress": {"step": 90, "totalSteps": 90, "metrics": {"test_accuracy": 0.975}, "mainMetric": "test_accuracy"}}
    decided = plan(typed, see(typed, [ended(pods[0], 0, message=words), ended(pods[1], 0)]), NOW, SETTINGS)
    status = decided.status
    assert status.phase is Phase.SUCCEEDED
    assert status.main_metric == "test_accuracy=0.975"
    assert status.progress is not None
    assert status.progress.summary == "90/90 (100%)"
    assert status.reason == "all 2 workers finished; test_accuracy=0.975"
    assert [event.reason for event in decided.events] == ["WorkersSucceeded"]


def test_a_failure_is_written_down_before_anything_is_deleted() -> None:
    typed, pods = created(job().workers(2))
    decided = plan(typed, see(typed, [ended(pods[0], 137), running(pods[1])]), NOW, SETTINGS)
    assert not decided.delete
    assert not decided.create
    status = decided.status
    assert (status.phase, status.attempt, status.restarts.failure) == (Phase.RESTARTING, 2, 1)
    last = status.restarts.last
    assert last is not None
    assert (last.pod, last.cause, last.exit_code, last.signal) == ("digits-a1-worker-0", "Killed", 137, 9)


def test_the_next_attempt_waits_until_the_survivors_have_ended() -> None:
    builder = job().workers(2)
    typed, pods = created(builder)
    seen = [ended(pods[0], 137), running(pods[1])]
    typed = next_attempt(builder, typed, seen)
    stopping = plan(typed, see(typed, seen), NOW, SETTINGS)
    assert [gone.name for gone in stopping.delete] == ["digits-a1-worker-1"], "the pod with the evidence keeps its log"
    assert stopping.delete[0].grace == SETTINGS.broken_gang_grace
    assert not stopping.create
    assert stopping.requeue_after
    survivors_gone = plan(typed, see(typed, seen[:1]), NOW, SETTINGS)
    assert [pod["metadata"]["name"] for pod in survivors_gone.create] == ["digits-a2-worker-0", "digits-a2-worker-1"]


def test_a_pod_stuck_on_a_lost_node_does_not_block_the_next_attempt() -> None:
    builder = job().workers(2)
    typed, pods = created(builder)
    seen = [ended(pods[0], 1), running(pods[1])]
    typed = next_attempt(builder, typed, seen)
    seen[1]["metadata"]["deletionTimestamp"] = "2026-11-21T09:00:00Z"
    assert plan(typed, see(typed, seen), NOW + 10**6, SETTINGS).create


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        pytest.param(
            {"cause": "InvalidConfig", "message": "epoch: no such key"}, 64, "InvalidConfig", id="a refused configuration"
        ),
        pytest.param({"cause": "NoCheckpoint", "message": "all damaged"}, 65, "NoCheckpoint", id="no usable checkpoint"),
    ],
)
def test_what_another_attempt_would_repeat_fails_the_job_at_once(words: dict[str, Any], code: int, cause: str) -> None:
    typed, pods = created(job().workers(1))
    status = plan(typed, see(typed, [ended(pods[0], code, message=words)]), NOW, SETTINGS).status
    assert status.phase is Phase.FAILED
    assert status.restarts.last is not None
    assert status.restarts.last.cause == cause
    assert words["message"] in (status.reason or "")


def test_a_foreign_program_may_use_our_exit_codes() -> None:
    typed, pods = created(job().command("false").workers(1))
    status = plan(typed, see(typed, [ended(pods[0], 64, message="usage: …")]), NOW, SETTINGS).status
    assert status.phase is Phase.RESTARTING


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_backoff_limit_holds(limit: int) -> None:
    builder = job().workers(1).run_policy(backoffLimit=limit)
    typed, pods = created(builder)
    for attempt in range(1, limit + 1):
        typed = next_attempt(builder, typed, [ended(pods[0], 1)])
        assert typed.status.phase is Phase.RESTARTING
        assert typed.attempt == attempt + 1
        typed = after(builder, plan(typed, see(typed, []), NOW, SETTINGS))
        pods = pods_of(typed)
    typed = next_attempt(builder, typed, [ended(pods[0], 1, message="boom")])
    assert typed.status.phase is Phase.FAILED
    assert typed.status.restarts.failure == limit
    assert typed.status.restarts.last is not None
    assert typed.status.restarts.last.evidence == "boom"
    assert typed.status.condition(ConditionType.FAILED) is not None


def test_a_pod_deleted_by_hand_restarts_the_gang_and_is_not_counted() -> None:
    builder = job().workers(2).run_policy(backoffLimit=0)
    typed, pods = created(builder)
    typed = next_attempt(builder, typed, [running(pods[0])])
    assert typed.status.phase is Phase.RESTARTING
    assert (typed.status.restarts.failure, typed.status.restarts.infrastructure) == (0, 1)
    assert typed.status.restarts.last is not None
    assert (typed.status.restarts.last.cause, typed.status.restarts.last.pod) == ("Deleted", "digits-a1-worker-1")


def test_a_pod_whose_deletion_nobody_confirms_is_lost_with_its_node() -> None:
    """What the taint manager leaves of a node that is away: pods that run, marked for deletion, for ever."""
    builder = job().workers(2).run_policy(backoffLimit=0)
    typed, pods = created(builder)
    pods = [running(pod) for pod in pods]
    pods[1]["metadata"] |= {"deletionTimestamp": rfc3339(NOW + 30), "deletionGracePeriodSeconds": 30}
    decided = plan(typed, see(typed, pods), NOW, SETTINGS)
    assert decided.status.phase is Phase.RUNNING
    assert decided.requeue_after == pytest.approx(30 + SETTINGS.stuck_after, abs=1)
    decided = plan(typed, see(typed, pods), NOW + 31 + SETTINGS.stuck_after, SETTINGS)
    assert (decided.status.phase, decided.status.attempt) == (Phase.RESTARTING, 2)
    assert decided.status.restarts.last is not None
    assert decided.status.restarts.last.cause == "NodeLost"
    assert "was lost with its node: node-1 does not answer" in (decided.status.reason or "")
    assert decided.status.restarts.failure == 0


def test_what_is_known_of_a_pod_that_is_gone_explains_its_end() -> None:
    """A drained node's pods may vanish between two looks: the last that was seen of them tells an eviction from a deletion."""
    typed, pods = created(job().workers(2).run_policy(backoffLimit=0))
    first, second = (running(pod) for pod in pods)

    def cause(departed: dict[str, Any]) -> str:
        observed = observe(uid=typed.uid, pods=[first], children=wanted(typed, SETTINGS), departed=[departed])
        decided = plan(typed, observed, NOW, SETTINGS)
        assert decided.status.restarts.last is not None
        return decided.status.restarts.last.cause

    assert cause(second) == "Deleted"
    target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    second["status"]["conditions"] = [target]
    assert cause(second) == "Evicted"
    second["metadata"]["ownerReferences"][0]["uid"] = "another job's"
    assert cause(second) == "Deleted", "a pod of an earlier job of this name says nothing of this one"


def test_eviction_and_preemption_are_not_counted() -> None:
    typed, pods = created(job().workers(1).run_policy(backoffLimit=0))
    for reason, cause in (("EvictionByEvictionAPI", "Evicted"), ("PreemptionByScheduler", "Preempted")):
        pod = ended(pods[0], 143)
        pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": reason}]
        status = plan(typed, see(typed, [pod]), NOW, SETTINGS).status
        assert status.phase is Phase.RESTARTING
        assert status.restarts.last is not None
        assert status.restarts.last.cause == cause


class TestTheFirstFailureIsTheEvidence:
    def test_a_rank_whose_peer_vanished_is_a_consequence_even_if_it_was_seen_first(self) -> None:
        typed, pods = created(job().workers(2))
        lost = {"rank": 0, "cause": "PeerLost", "time": NOW - 50, "message": "Connection closed by peer", "lines": ["x"]}
        seen = [ended(pods[0], 1, message=lost), ended(pods[1], 137, at="2026-11-21T09:20:00Z")]
        last = plan(typed, see(typed, seen), NOW, SETTINGS).status.restarts.last
        assert last is not None
        assert (last.pod, last.cause) == ("digits-a1-worker-1", "Killed")

    def test_with_only_a_consequence_so_far_the_cause_is_given_a_moment_to_be_reported(self) -> None:
        typed, pods = created(job().workers(2))
        lost = {"rank": 0, "cause": "PeerLost", "time": NOW, "message": "Connection closed by peer"}
        seen = [ended(pods[0], 1, message=lost), running(pods[1])]
        waiting_for_more = plan(typed, see(typed, seen), NOW + 1, SETTINGS)
        assert waiting_for_more.status.phase is not Phase.RESTARTING
        assert waiting_for_more.requeue_after == pytest.approx(SETTINGS.settle - 1)
        assert plan(typed, see(typed, seen), NOW + SETTINGS.settle + 1, SETTINGS).status.phase is Phase.RESTARTING

    def test_of_ranks_that_hang_all_are_waited_for_and_the_mute_one_is_named(self) -> None:
        typed, pods = created(job().workers(3))
        hung = {"rank": 0, "cause": "Hung", "time": NOW, "message": "rank 0 has reported nothing for 62 s", "lines": ["in wait"]}
        seen = [
            ended(pods[0], 67, message=hung),
            ended(pods[1], 67, message=hung | {"rank": 1, "time": NOW + 1}),
            running(pods[2]),
        ]
        assert plan(typed, see(typed, seen), NOW + 1, SETTINGS).status.phase is not Phase.RESTARTING
        status = plan(typed, see(typed, seen), NOW + SETTINGS.settle + 1, SETTINGS).status
        assert status.phase is Phase.RESTARTING
        assert status.reason is not None
        assert (
            "digits-a1-worker-0 hung: rank 0 has reported nothing for 62 s; digits-a1-worker-2 said nothing at all"
            in status.reason
        )
        assert status.restarts.last is not None
        assert (status.restarts.last.cause, status.restarts.last.evidence) == ("Hung", "in wait")
        assert status.restarts.by_cause == {"Hung": 1}

    def test_of_two_failures_the_earlier_by_the_launcher_s_clock_wins(self) -> None:
        typed, pods = created(job().workers(2))
        seen = [
            ended(pods[0], 1, message={"rank": 0, "cause": "Error", "time": NOW + 0.5, "message": "second"}),
            ended(pods[1], 3, message={"rank": 1, "cause": "Error", "time": NOW + 0.1, "message": "first", "lines": ["a", "b"]}),
        ]
        last = plan(typed, see(typed, seen), NOW, SETTINGS).status.restarts.last
        assert last is not None
        assert (last.rank, last.exit_code, last.evidence) == (1, 3, "a\nb")


@pytest.mark.parametrize(
    ("policy", "deleted"),
    [("Running", ["digits-a1-worker-1"]), ("All", ["digits-a1-worker-0", "digits-a1-worker-1"]), ("None", [])],
)
def test_clean_pod_policy(policy: str, deleted: list[str]) -> None:
    builder = job().workers(2).run_policy(backoffLimit=0, cleanPodPolicy=policy)
    typed, pods = created(builder)
    seen = [ended(pods[0], 1), running(pods[1])]
    typed = next_attempt(builder, typed, seen)
    assert typed.status.phase is Phase.FAILED
    decided = plan(typed, see(typed, seen), NOW, SETTINGS)
    assert [gone.name for gone in decided.delete] == deleted
    assert not decided.create


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    raw = job().stored()
    raw["metadata"]["deletionTimestamp"] = "2026-11-21T09:00:00Z"
    decided = plan(parse(raw), Observed(), NOW, SETTINGS)
    assert decided.empty


def test_pods_of_an_earlier_job_of_the_same_name_are_not_ours() -> None:
    typed = job().workers(1).typed()
    foreign = pods_of(job().workers(1).typed(uid="another"))
    assert [pod["metadata"]["name"] for pod in plan(typed, see(typed, foreign), NOW, SETTINGS).create] == ["digits-a1-worker-0"]


@pytest.mark.parametrize("gone", [False, True], ids=["its pod is still there", "its pod is gone"])
@pytest.mark.parametrize(("written", "known"), [(40, 40), (None, 20)], ids=["it saved", "it could not save"])
def test_what_worker_zero_saved_on_its_way_out_is_known(gone: bool, written: int | None, known: int) -> None:
    builder = job().run_policy(suspend=True)
    typed, pods = created(job())
    heard = {"attempt": 1, "phase": "Suspended", "checkpoint": {"step": 20}, "progress": {"step": 35}}
    typed = builder.typed(status=typed.status.wire() | heard)
    checkpoint = None if written is None else {"step": written, "time": NOW, "path": "/workspace/checkpoints/step-40"}
    said = json.dumps({"rank": 0, "exitCode": 143, "cause": "Terminated", "message": "asked to stop", "checkpoint": checkpoint})
    last = ended(pods[0], 143, message=said)
    parts = {"pods": [], "departed": [last]} if gone else {"pods": [last], "departed": []}
    observed = observe(uid=typed.uid, children=wanted(typed, SETTINGS), **parts)
    status = plan(typed, observed, NOW, SETTINGS).status
    assert status.checkpoint is not None
    assert status.checkpoint.step == known
    assert status.progress is not None
    assert status.progress.step == 35, "of steps only a worker that runs, or has succeeded, can tell"


def test_what_was_saved_on_the_way_back_to_the_queue_is_known_before_the_next_attempt_runs() -> None:
    builder = job()
    typed, pods = created(builder)
    said = json.dumps({"rank": 0, "exitCode": 143, "cause": "Terminated", "message": "asked to stop", "checkpoint": {"step": 40}})
    gone = ended(pods[0], 143, message=said)
    queued = builder.typed(
        status=typed.status.wire() | {"attempt": 2, "phase": "Queued", "checkpoint": {"step": 20}, "conditions": []}
    )
    observed = observe(uid=typed.uid, pods=[], children=wanted(typed, SETTINGS), departed=[gone])
    waits = plan(queued, observed, NOW, SETTINGS, Admission(state=State.WAITING, reason="no room")).status
    assert waits.checkpoint is not None
    assert (waits.checkpoint.step, waits.phase) == (40, Phase.QUEUED)


def test_progress_is_taken_over_with_what_attempt_resumed_from() -> None:
    typed, pods = created(job().workers(1))
    said = TrainingProgress(
        step=30,
        total_steps=90,
        metrics={"loss": 0.5, "val_accuracy": 0.9},
        main_metric="val_accuracy",
        resumed_from=20,
        checkpoint_step=20,
    )
    status = plan(typed, see(typed, [running(pods[0])], said), NOW, SETTINGS).status
    assert status.progress is not None
    assert (status.progress.summary, status.main_metric) == ("30/90 (33%)", "val_accuracy=0.9")
    assert status.checkpoint is not None
    assert status.checkpoint.step == 20
    condition = status.condition(ConditionType.RUNNING)
    assert condition is not None
    assert condition.message == "attempt 1: the worker runs, resumed from step 20"


class TestBackoff:
    def failed_twice(self) -> tuple[JobBuilder, TrainingJob]:
        builder = job().workers(1).run_policy(backoffLimit=9)
        typed, pods = created(builder)
        for _ in range(2):
            typed = next_attempt(builder, typed, [ended(pods[0], 1)])
            typed = after(builder, plan(typed, see(typed, []), NOW, SETTINGS))
            pods = pods_of(typed)
        return builder, typed

    def test_the_first_restart_is_immediate_and_the_second_waits(self) -> None:
        _, typed = self.failed_twice()
        decided = plan(typed, see(typed, []), NOW + 1, SETTINGS)
        assert not decided.create
        assert decided.requeue_after == pytest.approx(SETTINGS.backoff - 1)
        assert (decided.status.phase, decided.status.reason) == (Phase.RESTARTING, "attempt 3 starts 10 s after failure 2")
        assert plan(typed, see(typed, []), NOW + SETTINGS.backoff, SETTINGS).create

    def test_a_clock_that_jumps_back_never_makes_it_wait_longer(self) -> None:
        _, typed = self.failed_twice()
        decided = plan(typed, see(typed, []), NOW - 10**6, SETTINGS)
        assert decided.requeue_after == pytest.approx(SETTINGS.backoff)

    @pytest.mark.parametrize(("failures", "seconds"), [(0, 0), (1, 0), (2, 10), (3, 20), (4, 40), (7, 300), (1000, 300)])
    def test_delays_double_up_to_a_bound(self, failures: int, seconds: float) -> None:
        assert backoff.delay(failures, SETTINGS) == seconds


class TestDeadlineAndTtl:
    def test_a_job_that_is_active_for_too_long_fails_and_its_pods_get_their_grace(self) -> None:
        builder = job().workers(1).run_policy(activeDeadlineSeconds=60)
        typed, pods = created(builder)
        seen = [running(pods[0])]
        in_time = plan(typed, see(typed, seen), NOW + 59, SETTINGS)
        assert in_time.status.phase is Phase.RUNNING
        assert in_time.requeue_after == pytest.approx(1)
        late = plan(typed, see(typed, seen), NOW + 61, SETTINGS)
        assert (late.status.phase, late.status.reason) == (Phase.FAILED, "active for longer than activeDeadlineSeconds 60")
        (gone,) = plan(after(builder, late), see(typed, seen), NOW + 61, SETTINGS).delete
        assert gone.grace is None

    def test_a_job_that_has_ended_is_deleted_after_its_time_to_live(self) -> None:
        builder = job().workers(1).run_policy(ttlSecondsAfterFinished=30)
        typed, pods = created(builder)
        seen = [ended(pods[0], 0)]
        typed = next_attempt(builder, typed, seen)
        soon = plan(typed, see(typed, seen), NOW + 10, SETTINGS)
        assert not soon.delete_job
        assert soon.requeue_after == pytest.approx(20)
        assert plan(typed, see(typed, seen), NOW + 30, SETTINGS).delete_job


class TestSuspend:
    @staticmethod
    def changed(builder: JobBuilder, typed: TrainingJob, *, suspend: bool) -> TrainingJob:
        """The same job after its owner has changed runPolicy.suspend."""
        builder.run_policy(suspend=suspend)
        return parse(builder.stored(status=typed.status.wire()))

    def test_it_is_written_down_before_pods_are_stopped_with_their_own_grace(self) -> None:
        builder = job().workers(2)
        typed, pods = created(builder)
        seen = [running(pod) for pod in pods]
        typed = self.changed(builder, typed, suspend=True)
        first = plan(typed, see(typed, seen), NOW, SETTINGS)
        assert not first.delete
        assert first.status.phase is Phase.SUSPENDED
        typed = after(builder, first)
        second = plan(typed, see(typed, seen), NOW, SETTINGS)
        assert [(gone.name, gone.grace) for gone in second.delete] == [("digits-a1-worker-0", None), ("digits-a1-worker-1", None)]
        ends = [ended(pod, 143) for pod in pods]
        for pod in ends:
            pod["metadata"]["deletionTimestamp"] = "2026-11-21T09:02:00Z"
        quiet = plan(typed, see(typed, ends), NOW, SETTINGS)
        assert (quiet.status.phase, quiet.status.restarts.total) == (Phase.SUSPENDED, 0)

    def test_a_resume_is_another_attempt_that_counts_for_nothing(self) -> None:
        builder = job().workers(2)
        typed, _ = created(builder)
        typed = self.changed(builder, typed, suspend=True)
        typed = after(builder, plan(typed, see(typed, []), NOW, SETTINGS))
        typed = self.changed(builder, typed, suspend=False)
        typed = after(builder, plan(typed, see(typed, []), NOW, SETTINGS))
        assert (typed.attempt, typed.status.restarts.total) == (2, 0)
        assert [pod["metadata"]["name"] for pod in plan(typed, see(typed, []), NOW, SETTINGS).create] == [
            "digits-a2-worker-0",
            "digits-a2-worker-1",
        ]

    def test_a_job_that_is_born_suspended_makes_nothing(self) -> None:
        decided = plan(job().run_policy(suspend=True).typed(), Observed(), NOW, SETTINGS)
        assert (decided.status.phase, decided.status.reason) == (Phase.SUSPENDED, "suspended")
        assert not decided.create
        assert not decided.make


class TestWhereTheTimeGoes:
    def test_phases_add_up_and_what_came_after_the_last_checkpoint_is_lost(self) -> None:
        builder = job().workers(1)
        typed = builder.typed()
        typed = after(builder, plan(typed, see(typed, []), NOW, SETTINGS))
        pods = pods_of(typed)
        typed = after(builder, plan(typed, see(typed, [waiting(pods[0], reason="ContainerCreating")]), NOW + 5, SETTINGS))
        typed = after(builder, plan(typed, see(typed, [running(pods[0])]), NOW + 8, SETTINGS))
        said = TrainingProgress(step=60, checkpoint_step=50, checkpoint_time=NOW + 48)
        typed = after(builder, plan(typed, see(typed, [running(pods[0])], said), NOW + 50, SETTINGS))
        assert typed.status.time is not None
        assert typed.status.time.productive_seconds == 0, "nothing is written while a phase lasts"
        assert so_far(typed.status, NOW + 50).productive_seconds == 42
        typed = after(builder, plan(typed, see(typed, [ended(pods[0], 137)]), NOW + 58, SETTINGS))
        typed = after(builder, plan(typed, see(typed, []), NOW + 60, SETTINGS))
        spent = typed.status.time
        assert spent is not None
        assert (spent.queued_seconds, spent.starting_seconds, spent.productive_seconds, spent.lost_seconds) == (5, 3, 40, 10 + 2)
        assert typed.status.goodput == pytest.approx(100 * 40 / 60, abs=0.1)
        assert typed.status.held_seconds == 3 + 50, "starting and running, and neither queued nor restarting"
        assert typed.status.gpu_hours is None, "it asked for none"
        assert typed.status.restarts.by_cause == {"Killed": 1}

    def test_gpu_hours_and_cost_are_of_the_time_that_the_gang_held_its_resources(self) -> None:
        settings = replace(SETTINGS, prices=Prices(currency="EUR", gpu=3.0))
        builder = job().workers(2).spec(resources={"gpus": 4})
        typed = builder.typed()
        typed = after(builder, plan(typed, see(typed, []), NOW, settings))
        pods = pods_of(typed)
        typed = after(builder, plan(typed, see(typed, [running(pod) for pod in pods]), NOW + 600, settings))
        typed = after(builder, plan(typed, see(typed, [ended(pod, 0) for pod in pods]), NOW + 4200, settings))
        assert typed.status.held_seconds == 3600
        assert typed.status.gpu_hours == 8.0
        assert typed.status.cost == 24.0

    def test_a_failure_without_a_checkpoint_loses_all_of_the_attempt(self) -> None:
        builder = job().workers(1)
        typed, pods = created(builder)
        typed = after(builder, plan(typed, see(typed, [running(pods[0])]), NOW, SETTINGS))
        typed = after(builder, plan(typed, see(typed, [ended(pods[0], 1)]), NOW + 30, SETTINGS))
        assert typed.status.time is not None
        assert (typed.status.time.productive_seconds, typed.status.time.lost_seconds) == (0, 30)

    def test_what_was_saved_on_the_way_out_is_not_lost(self) -> None:
        builder = job().workers(1)
        typed, pods = created(builder)
        typed = after(builder, plan(typed, see(typed, [running(pods[0])]), NOW, SETTINGS))
        saved = {"step": 9, "time": NOW + 28}
        last = ended(pods[0], 143, message={"rank": 0, "exitCode": 143, "cause": "Terminated", "checkpoint": saved})
        last["metadata"]["deletionTimestamp"] = rfc3339(NOW + 60)
        typed = after(builder, plan(typed, see(typed, [last]), NOW + 30, SETTINGS))
        assert typed.status.restarts.by_cause == {"Deleted": 1}
        assert typed.status.time is not None
        assert (typed.status.time.productive_seconds, typed.status.time.lost_seconds) == (28, 2)

    def test_a_clock_that_jumps_back_takes_nothing_away(self) -> None:
        builder = job().workers(1)
        typed, pods = created(builder)
        typed = after(builder, plan(typed, see(typed, [running(pods[0])]), NOW, SETTINGS))
        typed = after(builder, plan(typed, see(typed, [ended(pods[0], 0)]), NOW - 1000, SETTINGS))
        assert typed.status.time is not None
        assert typed.status.time.productive_seconds == 0


class TestWhatAUserMaySayOfPods:
    def test_gpus_are_asked_for_as_what_the_cluster_offers(self) -> None:
        asked = {"gpus": 2, "gpuResource": "nvidia.com/mig-1g.10gb"}
        pod = worker_pod(job().spec(resources=asked).typed(), 0, SETTINGS)
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"] == {"nvidia.com/mig-1g.10gb": "2"}

    def test_image_environment_and_placement_are_taken_over(self) -> None:
        secret = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
        placement = {
            "nodeSelector": {"gpu": "h200"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "priorityClassName": "high",
        }
        builder = job().spec(image="example.com/mine:1", env=[secret, {"name": "PLAIN", "value": "x"}], placement=placement)
        spec = worker_pod(builder.typed(), 0, SETTINGS)["spec"]
        (container,) = spec["containers"]
        assert container["image"] == "example.com/mine:1"
        assert container["command"][0] == "trainwright-launch", "a recipe needs the launcher, so its image must be made from ours"
        by_name = {one["name"]: one for one in container["env"]}
        assert by_name["KEY"] == {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}}
        assert by_name["PLAIN"] == {"name": "PLAIN", "value": "x"}
        assert spec["nodeSelector"] == {"gpu": "h200"}
        own, *away = spec["tolerations"]
        assert own == {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
        assert {one["key"]: one["tolerationSeconds"] for one in away} == {
            "node.kubernetes.io/not-ready": 60,
            "node.kubernetes.io/unreachable": 60,
        }
        assert spec["priorityClassName"] == "high"

    def test_what_is_mounted_where(self) -> None:
        data = [
            {"name": "train", "uri": "s3://bucket/train"},
            {"name": "images", "claim": "shared", "path": "2026"},
            {"name": "classes", "configMap": "classes", "mountPath": "/mnt/classes"},
            {"name": "digits", "builtin": "digits"},
        ]
        spec = {"code": {"claim": "shared", "path": "src"}, "resources": {"sharedMemory": "1Gi"}, "workspace": {"claim": "mine"}}
        pod = worker_pod(job().spec(data=data, **spec).typed(), 0, SETTINGS)["spec"]
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: (mount["name"], mount.get("subPath")) for mount in container["volumeMounts"]}
        assert mounts == {
            "/workspace": ("workspace", "digits"),
            "/tmp": ("scratch", None),
            "/etc/trainwright": ("config", None),
            "/code": ("code", "src"),
            "/data/train": ("workspace", "digits/data/train"),
            "/data/images": ("data-images", "2026"),
            "/mnt/classes": ("data-classes", None),
            "/dev/shm": ("shared-memory", None),
        }
        assert all(
            mount.get("readOnly") for mount in container["volumeMounts"] if mount["mountPath"].startswith(("/data", "/mnt"))
        )
        (fetch,) = pod["initContainers"]
        assert fetch["command"] == ["trainwright-fetch", "train=s3://bucket/train"]
        assert fetch["image"] == container["image"]
        assert [mount["mountPath"] for mount in fetch["volumeMounts"]] == ["/workspace", "/tmp"]

    def test_a_workspace_in_object_storage_is_a_disk_of_the_pods_own_that_is_filled_before_and_kept_after(self) -> None:
        typed = job().spec(workspace={"uri": "s3://bucket/runs/"}).typed()
        pod = worker_pod(typed, 1, SETTINGS)["spec"]
        assert {"name": "workspace", "emptyDir": {}} in pod["volumes"]
        (fetch,) = pod["initContainers"]
        assert fetch["command"] == ["trainwright-fetch"]
        for container in (fetch, *pod["containers"]):
            folder = {"name": "TRAINWRIGHT_WORKSPACE_URI", "value": "s3://bucket/runs/default/digits"}
            assert folder in container["env"]
        assert pod["terminationGracePeriodSeconds"] == 120
        assert [child["kind"] for child in wanted(typed, SETTINGS)] == ["Service"]

    @pytest.mark.parametrize(
        ("spec", "image"),
        [
            ({"recipe": None, "command": ["true"]}, "ghcr.io/trainwright/torch"),
            ({"recipe": None, "command": ["true"], "image": "python:3"}, "ghcr.io/trainwright/sklearn"),
            ({"recipe": None, "command": ["true"], "framework": "none"}, "ghcr.io/trainwright/sklearn"),
            ({"framework": "sklearn", "recipe": {"name": "tabular"}}, "ghcr.io/trainwright/sklearn"),
            ({"image": "example.com/mine:1"}, "example.com/mine"),
        ],
    )
    def test_data_is_fetched_by_an_image_that_can(self, spec: dict[str, Any], image: str) -> None:
        builder = job().spec(data=[{"name": "train", "uri": "s3://bucket/train"}], **spec)
        (fetch,) = worker_pod(builder.typed(), 0, SETTINGS)["spec"]["initContainers"]
        assert fetch["image"].rpartition(":")[0] == image

    def test_a_topology_key_keeps_an_attempt_together(self) -> None:
        spec = worker_pod(job().spec(placement={"topologyKey": "topology.kubernetes.io/zone"}).typed(), 0, SETTINGS)["spec"]
        assert "topologyKey" not in spec
        (term,) = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "topology.kubernetes.io/zone"
        assert term["labelSelector"]["matchLabels"] == {"trainwright.dev/job": "digits", "trainwright.dev/attempt": "1"}

    def test_who_tolerates_a_lost_node_for_longer_is_heard(self) -> None:
        patient = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
        spec = worker_pod(job().spec(placement={"tolerations": [patient]}).typed(), 0, SETTINGS)["spec"]
        assert [one["key"] for one in spec["tolerations"]] == [patient["key"], "node.kubernetes.io/not-ready"]
        everything = {"operator": "Exists"}
        spec = worker_pod(job().spec(placement={"tolerations": [everything]}).typed(), 0, SETTINGS)["spec"]
        assert spec["tolerations"] == [everything]

    @pytest.mark.parametrize(
        ("resources", "own", "keys"),
        [
            ({}, [], []),
            ({"gpus": 2}, [], ["nvidia.com/gpu"]),
            ({"gpus": 1, "gpuResource": "nvidia.com/mig-1g.10gb"}, [], ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu"]),
            ({"gpus": 1, "gpuResource": "amd.com/gpu"}, [], ["amd.com/gpu"]),
            ({"gpus": 1}, [{"key": "nvidia.com/gpu", "operator": "Exists"}], []),
            ({"gpus": 1}, [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}], ["nvidia.com/gpu"]),
        ],
    )
    def test_who_asks_for_gpus_may_go_where_they_keep_others_away(
        self, resources: dict[str, Any], own: list[dict[str, Any]], keys: list[str]
    ) -> None:
        spec = worker_pod(job().spec(resources=resources, placement={"tolerations": own}).typed(), 0, SETTINGS)["spec"]
        ours = [one for one in spec["tolerations"] if one not in own and one["effect"] == "NoSchedule"]
        assert ours == [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]

    def test_a_command_in_an_image_of_one_s_own_runs_as_it_is(self) -> None:
        builder = job().spec(recipe=None, command=["python", "train.py"], image="example.com/mine:1")
        (container,) = worker_pod(builder.typed(), 0, SETTINGS)["spec"]["containers"]
        assert container["command"] == ["python", "train.py"]
        assert "MASTER_ADDR" in {one["name"] for one in container["env"]}

    def test_what_somebody_else_manages_is_left_alone(self) -> None:
        assert plan(job().run_policy(managedBy="kueue.x-k8s.io/multikueue").typed(), Observed(), NOW, SETTINGS).empty
        assert plan(job().run_policy(managedBy="trainwright.dev/operator").typed(), Observed(), NOW, SETTINGS).create

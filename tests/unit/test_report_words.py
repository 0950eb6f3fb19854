"""What `trainwright report` says of a job in words, and which phase it was in when."""

from __future__ import annotations

import pytest

from support.reports import KILLED, RESTARTED, SUCCEEDED, T0, at, event, facts, spent
from trainwright.api.status import Phase
from trainwright.cli.reporting.facts import Facts, Steps, Straggler
from trainwright.cli.reporting.prom import straggler
from trainwright.cli.reporting.sentences import Kind, account, length, losses, percent, sentences, verdict
from trainwright.cli.reporting.timeline import marks, spans


@pytest.mark.parametrize(
    ("of", "first", "then"),
    [
        pytest.param(
            facts(**RESTARTED),
            "Succeeded in 4 min 12 s. Largest loss: one restart, 38 s.",
            ["77% of its time was productive: 38 s were lost to one restart (attempt 1, worker 1, killed by signal 9) and 21 s went into starting pods."],
            id="a killed worker is the largest loss",
        ),
        pytest.param(
            facts(**SUCCEEDED, time=spent(productive=252)),
            "Succeeded in 4 min 12 s. Nothing slowed it down that is worth a word.",
            ["100% of its time was productive."],
            id="nothing went wrong",
        ),
        pytest.param(
            facts(**SUCCEEDED, time=spent(queued=200, productive=52)),
            "Succeeded in 4 min 12 s. Largest loss: waiting for room, 3 min 20 s.",
            ["21% of its time was productive: 3 min 20 s went into waiting for room on nodes."],
            id="most of it was waiting",
        ),
        pytest.param(
            facts(**SUCCEEDED, time=spent(productive=252), steps=Steps(seconds=200, mean=0.1, data_share=0.4, checkpoint_share=0.004, startups=[8, 12])),
            "Succeeded in 4 min 12 s. Largest loss: waiting for data, 1 min 20 s.",
            [
                "100% of its time was productive.",
                "Of its productive time, 20 s passed in 2 attempts before the first step.",
                "Steps waited 40% of their time for data and 0.4% for checkpoints.",
            ],
            id="its steps waited for data",
        ),
        pytest.param(
            facts(**SUCCEEDED, time=spent(productive=252), steps=Steps(seconds=252, mean=0.2, straggler=Straggler(rank="3", ratio=2.0, extra=0.1))),
            "Succeeded in 4 min 12 s. Largest loss: waiting for rank 3, 2 min 6 s.",
            ["Rank 3 needed 2.0 times as long for its part of a step as the others, which waited 0.1 s for it in every step."],
            id="one rank was slow",
        ),
        pytest.param(
            facts(
                phase="Failed", completionTime=at(90), phaseSince=at(90), startTime=at(5), attempt=3,
                reason="digits-a3-worker-0 exited with code 3: CUDA out of memory; backoffLimit 2 is used up",
                restarts={"total": 2, "failure": 2, "byCause": {"Error": 2}, "last": KILLED | {"attempt": 3, "pod": "digits-a3-worker-0", "cause": "Error", "signal": None, "exitCode": 3, "rank": 0}},
                time=spent(queued=5, lost=85),
            ),
            "Failed after 1 min 30 s: attempt 3, rank 0, exit code 3.",
            ["digits-a3-worker-0 exited with code 3: CUDA out of memory; backoffLimit 2 is used up.", "0% of its time was productive: 1 min 25 s were lost to 3 failures and 5 s went into waiting for room on nodes."],
            id="it failed again and again",
        ),
        pytest.param(
            facts(phase="Failed", completionTime=at(3), phaseSince=at(3), reason="spec.recipe.name: no-such is no recipe"),
            "Failed after 3 s: spec.recipe.name: no-such is no recipe.",
            [],
            id="it was refused and never ran",
        ),
        pytest.param(
            facts(now=720, phase="Queued", phaseSince=at(0), reason="2 of 2 workers wait: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
            "Has been waiting for 12 min.",
            ["2 of 2 workers wait: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."],
            id="it waits",
        ),
        pytest.param(
            facts(
                now=180, phase="Running", phaseSince=at(10), startTime=at(10), time=spent(queued=10),
                progress={"step": 126, "totalSteps": 300, "percent": 42.0, "etaSeconds": 240.0}, checkpoint={"step": 120, "time": at(168)},
                metrics={"loss": 0.5, "learning_rate": 0.01},
            ),
            "Running, 3 min after it was submitted. Largest loss: waiting for room, 10 s.",
            ["126 of 300 steps (42%) are done, about 4 min to go.", "A failure now would cost 12 s (newest checkpoint: step 120).", "Last metrics at step 126: loss 0.5000."],
            id="it runs",
        ),
        pytest.param(
            facts(now=60, phase="Running", phaseSince=at(0), startTime=at(0)),
            "Running, 1 min after it was submitted.",
            ["There is no checkpoint yet: a failure now would cost all that was trained."],
            id="it runs without a checkpoint",
        ),
        pytest.param(
            facts(now=60, phase="Restarting", phaseSince=at(50), startTime=at(0), reason="attempt 3 starts 10 s after failure 2", attempt=3),
            "Restarting for 10 s.",
            ["Attempt 3 starts 10 s after failure 2."],
            id="it is about to start anew",
        ),
        pytest.param(facts(now=3600, phase="Suspended", phaseSince=at(0)), "Suspended for 1 h.", [], id="it was set aside"),
        pytest.param(facts(), "No operator has looked at this job yet.", [], id="nobody has seen it"),
        pytest.param(
            facts(
                **RESTARTED
                | {"restarts": {"total": 3, "failure": 2, "infrastructure": 1, "byCause": {"NodeLost": 1, "Killed": 2}, "last": KILLED | {"cause": "NodeLost", "signal": None, "attempt": 3}}}
            ),
            "Succeeded in 4 min 12 s. Largest loss: 3 restarts, 38 s.",
            ["38 s were lost to 3 restarts (2 × Killed, 1 × NodeLost; the last: attempt 3, worker 1, NodeLost)"],
            id="several restarts, by their causes",
        ),
        pytest.param(
            facts(**SUCCEEDED, time=spent(productive=252), steps=Steps(losses_not_finite=2)),
            "Succeeded in 4 min 12 s.",
            ["The loss was NaN or infinite 2 times: from then on nothing was learned."],
            id="it learned nothing",
        ),
        pytest.param(
            facts(
                **SUCCEEDED, gpus=2, heldSeconds=1800, cost=5.0, steps=Steps(currency="EUR"), time=spent(productive=252),
                metrics={"loss": 0.03, "val_loss": 0.1, "val_accuracy": 0.97, "test_accuracy": 0.98}, mainMetric="val_accuracy=0.97",
                progress={"step": 1200},
            ),
            "Succeeded in 4 min 12 s.",
            ["Last metrics at step 1,200: val_accuracy 0.9700, test_accuracy 0.9800, loss 0.0300.", "It held 2.00 GPU hours, at a price of 5.00 EUR."],
            id="what it reached and what it cost",
        ),
    ],
)  # fmt: skip
def test_the_answer_in_words(of: Facts, first: str, then: list[str]) -> None:
    assert verdict(of).startswith(first)
    said = " ".join(sentences(of))
    for sentence in then:
        assert sentence in said


def test_a_reason_that_goes_on_for_pages_is_cut_at_a_word() -> None:
    said = sentences(facts(phase="Queued", phaseSince=at(0), reason="waits " * 100 + "\nand more"))[0]
    assert said.startswith("Waits waits")
    assert said.endswith("waits ….")
    assert len(said) < 300


def test_the_account_adds_up_to_the_job_s_time() -> None:
    steps = Steps(
        seconds=150,
        mean=0.2,
        data_share=0.1,
        checkpoint_share=0.05,
        startups=[30],
        straggler=Straggler(rank="1", ratio=3, extra=0.04),
    )
    found_ = account(facts(**RESTARTED, steps=steps))
    assert sum(found_.values()) == pytest.approx(252)
    assert found_[Kind.STARTUP] == 30
    assert found_[Kind.DATA] == pytest.approx(15)
    assert found_[Kind.STRAGGLER] == pytest.approx(30)
    assert found_[Kind.BETWEEN] == 13
    assert [kind for kind, _ in losses(facts(**RESTARTED, steps=steps))][:2] == [Kind.LOST, Kind.STARTUP]


def test_more_measured_than_the_operator_saw_breaks_no_bar() -> None:
    """Workers start their clocks before the operator sees them run, and time that was lost was stepped through as well."""
    found_ = account(
        facts(**SUCCEEDED, time=spent(productive=10), steps=Steps(seconds=500, mean=1, startups=[8], data_share=0.5))
    )
    assert min(found_.values()) >= 0
    assert sum(found_.values()) == 10


def test_a_straggler_is_slow_against_the_others_and_in_what_a_step_takes() -> None:
    assert straggler({"0": 0.1, "1": 0.1, "2": 0.3}) == Straggler(rank="2", ratio=pytest.approx(3), extra=pytest.approx(0.2))
    assert straggler({"0": 0.1}) is None
    assert straggler({"0": 0.0, "1": 0.0}) is None
    small = Steps(seconds=100, mean=1.0, straggler=Straggler(rank="2", ratio=3, extra=0.001))
    assert "Rank 2" not in " ".join(sentences(facts(**SUCCEEDED, time=spent(productive=252), steps=small)))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.04, "40 ms"), (0.44, "0.4 s"), (38, "38 s"), (252, "4 min 12 s"), (3600, "1 h"), (11_100, "3 h 5 min"), (187_200, "2 d 4 h"), (59.7, "1 min")],
)  # fmt: skip
def test_how_long_in_words(seconds: float, text: str) -> None:
    assert length(seconds) == text


def test_shares_in_words() -> None:
    assert [percent(share) for share in (0, 0.0004, 0.004, 0.04, 1)] == ["0%", "less than 0.1%", "0.4%", "4%", "100%"]


def test_phases_from_status_and_events_alone() -> None:
    of = facts(**RESTARTED)
    happened = [
        event("WorkerFailed", 100, "attempt 1: digits-a1-worker-1 was killed by signal 9; restarting as attempt 2\nlast lines")
    ]
    found_ = [(span.phase, span.begin - T0, span.end - T0) for span in spans(of, happened)]
    # When a restart was over, status tells of an attempt that runs only.
    assert found_ == [(Phase.QUEUED, 0, 21), (Phase.RUNNING, 21, 100), (Phase.RESTARTING, 100, 101), (Phase.RUNNING, 101, 252)]
    (mark,) = marks(of, happened)
    assert (mark.label, mark.text) == (
        "attempt 1 failed",
        "attempt 1: digits-a1-worker-1 was killed by signal 9; restarting as attempt 2",
    )


def test_prometheus_fills_in_what_events_no_longer_tell() -> None:
    of = facts(**RESTARTED | {"restarts": {"total": 2, "byCause": {"Killed": 2}, "last": KILLED | {"attempt": 2}}})
    seen = [
        (T0, Phase.QUEUED),
        (T0 + 21, Phase.RUNNING),
        (T0 + 50, Phase.RESTARTING),
        (T0 + 55, Phase.RUNNING),
        (T0 + 108, Phase.RUNNING),
    ]
    found_ = [(span.phase, span.begin - T0) for span in spans(of, [], seen)]
    assert found_ == [
        (Phase.QUEUED, 0),
        (Phase.RUNNING, 21),
        (Phase.RESTARTING, 50),
        (Phase.RUNNING, 55),
        (Phase.RESTARTING, 100),
        (Phase.RUNNING, 108),
    ]
    told = [mark.text for mark in marks(of, [], [(T0 + 52, 2), (T0 + 103, 3)])]
    assert told == ["the gang was started anew; the event that said why is gone", "attempt 2, worker 1, killed by signal 9"]


def test_a_job_that_nobody_saw_has_no_phases() -> None:
    assert spans(facts(), []) == []

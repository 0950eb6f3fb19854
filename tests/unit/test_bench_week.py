"""The simulated week: no GPU is given twice, and what each way of sharing is known for shows in a few jobs."""

from __future__ import annotations

from typing import Any

import pytest

from bench import week
from bench.week import GPUS, HOUR, KINDS, NODES, Job, Policy, simulate

SMALL, _, LARGE, URGENT = KINDS


def jobs(*wanted: tuple[Any, int, float, float]) -> list[Job]:
    """Kind, workers, hour of arrival, hours of training."""
    made = [
        Job(number=0, kind=kind, workers=workers, arrives=at * HOUR, left=hours * HOUR) for kind, workers, at, hours in wanted
    ]
    for number, job in enumerate(made):
        job.number = number
    return made


class Watched:
    """A policy, and the most GPUs of a node that it has ever given out."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.least_free = GPUS

    def place(self, now: float, waiting: list[Job], running: list[Job], free: list[int]) -> Any:
        yield from self._policy.place(now, waiting, running, free)
        self.least_free = min(self.least_free, *free)
        given = [sum(job.kind.gpus for job in running for node in job.where if node == number) for number in range(NODES)]
        assert all(left + taken <= GPUS for left, taken in zip(free, given, strict=True))

    def idle(self) -> int:
        return self._policy.idle()


@pytest.mark.parametrize("policy", [made for _, made in week.POLICIES], ids=[name for name, _ in week.POLICIES])
def test_no_gpu_is_given_twice_and_all_that_is_asked_for_is_trained(policy: Any) -> None:
    made = jobs(*((LARGE, 8, 0.1 * number, 1) for number in range(6)), *((SMALL, 1, 0.05 * number, 2) for number in range(40)))
    watched = Watched(policy())
    found = simulate("", watched, made)
    assert watched.least_free >= 0
    assert found.done == found.jobs
    trained = sum(found.busy) * week.SAMPLE / HOUR * NODES * GPUS
    assert trained == pytest.approx(6 * 64 * 1 + 40 * 2, rel=0.01)


def test_plain_pods_hold_gpus_in_vain_where_gangs_hold_none() -> None:
    blocked = [(LARGE, 8, 0.0, 3), (LARGE, 8, 0.1, 3), (SMALL, 1, 0.0, 1), (LARGE, 8, 0.2, 3)]
    held = {name: max(simulate(name, policy(), jobs(*blocked)).held) for name, policy in week.POLICIES}
    assert held["plain pods"] > 0
    assert held["capacity"] == held["first come, first served"] == 0


def test_who_is_urgent_takes_room_and_who_gave_it_loses_no_training() -> None:
    made = jobs((LARGE, 8, 0.0, 5), (LARGE, 8, 0.0, 5), (URGENT, 2, 1.0, 1))
    found = simulate("", week.Capacity(), made)
    assert found.waits["urgent"][0] <= week.GRACE
    assert found.done == 3
    assert sum(found.busy) * week.SAMPLE / HOUR * NODES * GPUS == pytest.approx(2 * 64 * 5 + 16, rel=0.02)


def test_small_jobs_go_past_a_large_one_which_starts_when_those_before_it_have_ended() -> None:
    mixed = [(LARGE, 8, 0.0, 4), (LARGE, 4, 0.0, 6), (LARGE, 8, 0.1, 1), (SMALL, 1, 0.2, 9), (SMALL, 1, 0.2, 9)]
    found = simulate("", week.Capacity(), jobs(*mixed))
    assert found.waits["small"] == [0, 0]
    assert found.waits["large"][2] == pytest.approx(3.9 * HOUR)
    in_order = simulate("", week.Fifo(), jobs(*mixed))
    assert min(in_order.waits["small"]) > 3 * HOUR

"""Whole gangs on one set of GPUs of a real node, by our own queue and by Kubernetes' own scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from support.installed import Installed, bare
from support.jobs import apply, until

WAITS = {
    "capacity": "needs 2 × 1 nvidia.com/gpu; 0 of 2 free",
    "native": "Insufficient nvidia.com/gpu",
}


def pair(name: str, command: str, provider: str, **policy: Any) -> dict[str, Any]:
    """Two workers with a GPU each; the node has two."""
    scheduling = {"provider": provider, **policy}
    return bare(name, command, workers=2, resources={"gpus": 1}, runPolicy={"schedulingPolicy": scheduling})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("provider", WAITS)
async def test_two_gangs_take_turns_and_who_waits_holds_nothing(release: Installed, space: str, provider: str) -> None:
    apply(release, space, pair("first", "until test -e /workspace/go; do sleep 0.2; done", provider))
    await until(release, space, lambda status: status.get("phase") == "Running", name="first")
    apply(release, space, pair("second", "sleep 1", provider))
    await release.waits(space, "second", lambda reason: WAITS[provider] in reason)
    assert not [pod for pod in release.pods(space, "second") if pod["spec"].get("nodeName")], "it has no part of what it needs"
    release.kubectl("exec", "-n", space, "first-a1-worker-0", "--", "touch", "/workspace/go")
    for name in ("first", "second"):
        status = await release.ends(space, name)
        assert (status["phase"], status["attempt"]) == ("Succeeded", 1)


@pytest.mark.timeout(300)
async def test_an_urgent_gang_takes_the_room_of_another_which_waits_for_it(release: Installed, space: str) -> None:
    urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": space}, "value": 1000}
    apply(release, space, urgent)
    try:
        apply(
            release,
            space,
            pair("patient", "test $TRAINWRIGHT_ATTEMPT = 2 || { trap 'exit 143' TERM; sleep 600 & wait; }", "capacity"),
        )
        await until(release, space, lambda status: status.get("phase") == "Running", name="patient")
        apply(release, space, pair("urgent", "sleep 1", "capacity", priorityClass=space))
        line = await release.waits(space, "patient", lambda reason: "preempted" in reason)
        assert f"preempted by {space}/urgent (priority 1000, this job's 0)" in line
        assert (await release.ends(space, "urgent"))["phase"] == "Succeeded"
        status = await release.ends(space, "patient")
        assert (status["phase"], status["attempt"], status["restarts"]["failure"]) == ("Succeeded", 2, 0)
    finally:
        release.kubectl("delete", "priorityclass", space)

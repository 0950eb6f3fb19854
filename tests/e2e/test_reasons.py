"""Nothing waits or dies without a reason: what a real kubelet, scheduler and quota say ends in one line of the job's."""

from __future__ import annotations

import json

import pytest

from support.installed import Installed, bare
from support.jobs import apply, until
from support.waiting import eventually


async def test_out_of_memory_is_said_with_what_to_do(release: Installed, space: str) -> None:
    resources = {"memory": "40Mi", "cpu": "100m"}
    apply(release, space, bare("hungry", "head -c 200m /dev/zero | tail", resources=resources, runPolicy={"backoffLimit": 0}))
    status = await release.ends(space, "hungry")
    assert status["phase"] == "Failed"
    assert status["restarts"]["last"]["cause"] == "OOMKilled"
    assert "ran out of memory (OOMKilled)" in status["reason"]
    assert "resources.memory is 40Mi: raise it" in status["reason"]


async def test_an_image_that_is_not_there(release: Installed, space: str) -> None:
    apply(release, space, bare("lost", "true", image="localhost/nowhere:1"))
    line = await release.waits(space, "lost", lambda reason: "ErrImagePull" in reason or "ImagePullBackOff" in reason)
    assert "localhost/nowhere:1" in line


async def test_a_claim_that_is_not_there(release: Installed, space: str) -> None:
    apply(release, space, bare("unclaimed", "true", workspace={"claim": "nobodys"}))
    line = await release.waits(space, "unclaimed", lambda reason: "nobodys" in reason)
    assert "not found" in line


async def test_a_quota_that_is_used_up(release: Installed, space: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team"},
        "spec": {"hard": {"requests.cpu": "150m"}},
    }
    release.kubectl("apply", "-n", space, "-f", "-", stdin=json.dumps(quota))
    await eventually(
        lambda: "hard" in release.kubectl.json("get", "quota", "team", "-n", space).get("status", {}), within=30, every=0.2
    )
    wants = {"cpu": "200m", "memory": "50Mi"}
    apply(release, space, bare("greedy", "true", resources=wants))
    line = await release.waits(space, "greedy", lambda reason: "quota" in reason)
    assert line == f"quota team of namespace {space}: needs 0.2 requests.cpu; 150m of 150m left"
    at_once = {"schedulingPolicy": {"provider": "none"}}
    apply(release, space, bare("pushy", "true", resources=wants, runPolicy=at_once))
    line = await release.waits(space, "pushy", lambda reason: "exceeded quota" in reason)
    assert "requested: requests.cpu=200m, used: requests.cpu=0, limited: requests.cpu=150m" in line
    release.kubectl("delete", "quota", "team", "-n", space)
    for name in ("greedy", "pushy"):
        assert (await release.ends(space, name))["phase"] == "Succeeded"


async def test_a_deadline_and_a_time_to_live(release: Installed, space: str) -> None:
    apply(release, space, bare("late", "sleep 600", runPolicy={"activeDeadlineSeconds": 3}))
    status = await release.ends(space, "late")
    assert status["phase"] == "Failed"
    assert "activeDeadlineSeconds" in status["reason"]
    apply(release, space, bare("fleeting", "true", runPolicy={"ttlSecondsAfterFinished": 2}))

    def gone() -> bool:
        return "fleeting" not in release.kubectl("get", "tj", "-n", space, "-o", "name")

    await eventually(gone, within=90, every=0.3, what="the job is gone after its time to live")
    await eventually(lambda: not release.pods(space, "fleeting"), within=60, every=0.3, what="its pods went with it")
    assert "fleeting-workspace" in release.kubectl("get", "pvc", "-n", space, "-o", "name"), "its results stay"


@pytest.mark.timeout(200)
async def test_two_jobs_on_one_set_of_gpus_take_turns(release: Installed, space: str) -> None:
    both = {"gpus": 2}
    apply(release, space, bare("first", "until test -e /workspace/go; do sleep 0.2; done", resources=both))
    await until(release, space, lambda status: status.get("phase") == "Running", name="first")
    apply(release, space, bare("second", "true", resources=both))
    line = await release.waits(space, "second", lambda reason: "nvidia.com/gpu" in reason)
    assert line.startswith("needs 2 nvidia.com/gpu; ")
    assert not release.pods(space, "second"), "who waits holds nothing"
    release.kubectl("exec", "-n", space, "first-a1-worker-0", "--", "touch", "/workspace/go")
    for name in ("first", "second"):
        assert (await release.ends(space, name))["phase"] == "Succeeded"

"""Every trainer image trains on a real kubelet, in a namespace that takes restricted pods alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.installed import Installed
from support.jobs import apply, sample, succeeded
from trainwright.observe.times import seconds

CASES = {
    "sklearn-search": {},
    "horovod-digits": {"epochs": 2},
    "jax-digits": {"epochs": 2},
    "digits": {"epochs": 2, "step_delay_seconds": 0},
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", CASES)
async def test_two_workers_of_a_recipe_succeed(release: Installed, space: str, name: str, say: Callable[[str], None]) -> None:
    job = sample(name)
    job["spec"]["recipe"]["config"] |= CASES[name]
    if name == "sklearn-search":
        job["spec"]["recipe"]["config"]["search"]["iterations"] = 3
    apply(release, space, job)
    status = await succeeded(release, space, name, within=360)
    assert status["workers"]["succeeded"] == 2
    assert status["attempt"] == 1
    assert status["metrics"], "the operator asked worker 0 over the pods' network"
    assert {pod["spec"]["nodeName"] for pod in release.pods(space, name)} == {"node-1"}
    log = release.kubectl("logs", "-n", space, f"{name}-a1-worker-0")
    (first_step,) = [line for line in log.splitlines() if "first step" in line][:1]
    say(f"{name}: {_start(release.pods(space, name))}; {first_step}")


def _start(pods: list[dict[str, Any]]) -> str:
    """From a pod's creation to its node's word that its container runs, of the slowest; the API server's times are whole seconds."""
    waits = []
    for pod in pods:
        (container,) = pod["status"]["containerStatuses"]
        waits.append(seconds(container["state"]["terminated"]["startedAt"]) - seconds(pod["metadata"]["creationTimestamp"]))
    return f"containers {max(waits):.0f} s after their pods"


@pytest.mark.timeout(400)
async def test_tensorflow_s_multi_worker_strategy_succeeds(release: Installed, space: str) -> None:
    import yaml

    from support.jobs import SAMPLES

    text = (SAMPLES / "tensorflow-mwms-fit.yaml").read_text().replace("epochs=8", "epochs=2")
    objects: list[dict[str, Any]] = list(yaml.safe_load_all(text))
    for one in objects:
        apply(release, space, one)
    status = await succeeded(release, space, "tensorflow-mwms-fit", within=360)
    assert status["workers"]["succeeded"] == 2
    said = release.kubectl("logs", "-n", space, "tensorflow-mwms-fit-a1-worker-1")
    assert "worker 1 of 2" in said

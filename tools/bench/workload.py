"""What is submitted: training jobs, and bare pods that are the same pods without a job."""

from __future__ import annotations

from typing import Any

from bench.world import NAMESPACE, SHARED_CLAIM
from trainwright.api.job import parse
from trainwright.api.names import API_VERSION
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import TRAINING_JOBS, Object
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings


def small_job(name: str, workers: int) -> Object:
    """A job with one child beside its pods: a command, and a folder in a claim that is there. What starting costs shows best."""
    return _job(name, workers, framework="none", command=["train"], workspace={"claim": SHARED_CLAIM})


def usual_job(name: str, workers: int) -> Object:
    """A job as most are: a recipe, its configuration, and a claim of its own."""
    return _job(name, workers, framework="torch", recipe={"name": "image-classification", "config": {"epochs": 1}})


def gpu_job(name: str, gpus: int) -> Object:
    """A small job of one worker with so many GPUs, in the queue of `capacity`."""
    policy = {"schedulingPolicy": {"provider": ProviderName.CAPACITY.value}}
    return small_job(name, 1) | {"spec": small_job(name, 1)["spec"] | {"resources": {"gpus": gpus}, "runPolicy": policy}}


def bare_pods(name: str, count: int) -> list[Object]:
    """The pods of such a job, owned and labelled by nobody, so that the operator doesn't look at them."""
    stored = small_job(name, count)
    stored["metadata"] |= {"uid": name, "generation": 1, "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    job = parse(stored)
    pods = [worker_pod(job, index, Settings()) for index in range(count)]
    for pod in pods:
        pod["metadata"] = {"name": pod["metadata"]["name"], "namespace": NAMESPACE}
    return pods


def _job(name: str, workers: int, **spec: Any) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": TRAINING_JOBS.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"workers": workers, **spec},
    }

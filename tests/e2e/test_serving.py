"""From a job to an answer of its model through a Service, with a Prometheus in the cluster that has seen all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from support.installed import Installed
from support.jobs import SAMPLES, apply, sample, succeeded
from support.scraping import Prometheus
from support.serving_twin import Served
from support.waiting import eventually


def ask(release: Installed, space: str, url: str, body: Any) -> dict[str, Any]:
    """From a pod of the namespace, as a client of the model would."""
    program = (
        "import json,sys,urllib.request;"
        "r=urllib.request.Request(sys.argv[1],sys.argv[2].encode(),{'Content-Type':'application/json'});"
        "print(urllib.request.urlopen(r,timeout=30).read().decode())"
    )
    answer = release.kubectl("exec", "-n", space, "client", "--", "python", "-c", program, url, json.dumps(body))
    return dict(json.loads(answer)) if answer.lstrip().startswith("{") else {"answer": json.loads(answer)}


def client(space: str) -> dict[str, Any]:
    """A pod that waits to be told what to ask."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "client",
                    "image": "localhost/gateway:e2e",
                    "command": ["sleep", "3600"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


@pytest.mark.timeout(500)
@pytest.mark.parametrize("server", ["sklearn", "torchserve"])
async def test_a_job_s_model_is_published_and_answers_through_its_service(
    release: Installed, prometheus: Prometheus, space: str, server: str
) -> None:
    apply(release, space, client(space))
    if server == "sklearn":
        name, job = "cancer", "cancer-1"
        for one in yaml.safe_load_all((SAMPLES / "serve-sklearn.yaml").read_text()):
            apply(release, space, one)
    else:
        name, job = "digits", "digits-1"
        apply(release, space, sample("serve-digits"))
        trained = sample("publish-digits")
        trained["spec"]["recipe"]["config"] |= {"epochs": 6}
        trained["spec"]["publish"]["gates"] = []
        apply(release, space, trained)
    await succeeded(release, space, job, within=300)
    served = Served(release, space, name)
    await served.reaches(lambda now: now.get("live") == 1, "the first version is live", within=200)

    (publisher,) = {one["metadata"]["name"] for one in release.kubectl.json("get", "sa", "-n", space)["items"]} - {"default"}
    assert publisher == f"{name}-publisher"
    samples = release.kubectl("exec", "-n", space, f"deploy/{name}-gateway", "--", "cat", "/models/records/1/samples.json")
    inputs = json.loads(samples)["inputs"]
    if server == "sklearn":
        tensors = [
            {"name": key, "shape": [1, *_shape(rows[0])], "datatype": "FP64", "data": rows[:1]} for key, rows in inputs.items()
        ]
        answer = ask(release, space, f"http://{name}-gateway/v2/models/{name}/infer", {"inputs": tensors})
        assert answer["outputs"]
    else:
        (key,) = inputs
        answer = ask(release, space, f"http://{name}-gateway/predictions/{name}", {"inputs": {key: inputs[key][:1]}})
        assert answer

    here = f'namespace="{space}"'
    for expression in (
        f'trainwright_job_workers{{{here},job="{job}",state="succeeded"}} == 1',
        f'max_over_time(up{{job="{job}",{here}}}[10m]) == 1',
        f'up{{job="trainwright-gateways",{here}}} == 1',
        f'up{{job="trainwright-servers",{here}}} == 1',
        f'trainwright_serving_requests_total{{{here},deployment="{name}"}} >= 1',
    ):
        await prometheus.says(expression)
    assert await prometheus.says('up{job="trainwright-operator"} == 1')

    writable = release.kubectl.json("get", "pods", "-n", space, "-l", f"trainwright.dev/deployment={name}")["items"]
    for pod in writable:
        mounts = pod["spec"]["containers"][0]["volumeMounts"]
        assert all(mount.get("readOnly") for mount in mounts if mount["name"] == "models"), "servers and gateways only read"
    await eventually(lambda: served.status().get("phase") == "Live", within=30, every=0.5)


def _shape(value: Any) -> list[int]:
    return [len(value), *_shape(value[0])] if isinstance(value, list) and value else []

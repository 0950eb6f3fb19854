"""The story of `make demo` and its variations, on a whole twin: real scheduler, real processes, real training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from support.jobs import SAMPLES, apply, get, kill_worker, sample, succeeded, until
from support.twin import RunningTwin
from support.waiting import eventually


def digits(**changes: Any) -> dict[str, Any]:
    """The demo's job, with changes to its recipe's configuration."""
    job = sample("digits")
    job["spec"]["recipe"]["config"] |= changes
    return job


def step(status: dict[str, Any]) -> int:
    return int(status.get("progress", {}).get("step") or 0)


def artifacts(status: dict[str, Any]) -> Path:
    return Path(status["checkpoint"]["path"]).parents[1] / "artifacts"


async def test_a_killed_worker_and_a_killed_operator_cost_steps_and_not_the_training(twin: RunningTwin, space: str) -> None:
    apply(twin, space, digits())
    await until(twin, space, lambda status: step(status) >= 60)

    operator = twin.twin._processes.process("operator")
    assert operator is not None
    kill_worker(get(twin, space), 1)
    operator.kill()
    assert twin.cli("up", "--name", "t").returncode == 0

    status = await succeeded(twin, space)
    assert status["attempt"] == 2
    assert status["restarts"]["failure"] == 1
    last = status["restarts"]["last"]
    assert (last["pod"], last["cause"], last["signal"]) == ("digits-a1-worker-1", "Killed", 9)
    assert status["progress"]["resumedFrom"] >= 40
    assert status["time"]["lostSeconds"] >= 1
    assert 0 < status["goodput"] < 100
    report = json.loads((artifacts(status) / "report.json").read_text())
    assert status["metrics"]["test_accuracy"] >= 0.97
    assert report
    for name in ("model.pt", "model.pt2", "manifest.json", "curves.png"):
        assert (artifacts(status) / name).stat().st_size > 100
    events = {event["reason"] for event in twin.kubectl.json("get", "events", "-n", space)["items"]}
    assert {"WorkerFailed", "WorkersSucceeded"} <= events


async def test_a_pod_deleted_by_hand_saves_on_its_way_out_and_is_not_counted(twin: RunningTwin, space: str) -> None:
    job = digits(step_delay_seconds=0.1)
    job["spec"]["checkpoint"] = {"everySteps": 100_000}
    job["spec"]["runPolicy"] = {"backoffLimit": 0}
    apply(twin, space, job)
    await until(twin, space, lambda status: step(status) >= 10)
    twin.kubectl("delete", "pod", "-n", space, "-l", "trainwright.dev/job=digits", "--wait=false")
    status = await until(twin, space, lambda status: status.get("progress", {}).get("resumedFrom"))
    assert status["attempt"] == 2
    assert (status["restarts"]["failure"], status["restarts"]["infrastructure"]) == (0, 1)
    assert status["restarts"]["last"]["cause"] == "Deleted"
    assert status["progress"]["resumedFrom"] >= 10, "no periodic checkpoint was due: only SIGTERM can have saved one"


async def test_suspend_saves_and_frees_and_resume_goes_on(twin: RunningTwin, space: str) -> None:
    job = digits(step_delay_seconds=0.05)
    job["spec"]["checkpoint"] = {"everySteps": 100_000}
    apply(twin, space, job)
    await until(twin, space, lambda status: step(status) >= 10)
    assert twin.cli("suspend", "digits", "-n", space).stdout == "digits is being suspended\n"
    status = await until(twin, space, lambda status: status.get("reason") == "suspended")
    saved = status["checkpoint"]["step"]
    assert saved >= 10, "no periodic checkpoint was due: it is known what was saved on the way out"
    assert twin.kubectl("get", "pods", "-n", space, "-o", "name") == ""
    assert twin.cli("suspend", "digits", "-n", space).stdout == "digits is suspended already\n"
    assert twin.cli("resume", "digits", "-n", space).stdout == "digits goes on\n"
    status = await until(twin, space, lambda status: status.get("progress", {}).get("resumedFrom"))
    assert status["progress"]["resumedFrom"] == saved
    assert (status["attempt"], status["restarts"]["total"]) == (2, 0)
    assert "stay in the claim digits-workspace" in twin.cli("delete", "digits", "-n", space).stdout.replace("\n", " ")
    gone = twin.cli("status", "digits", "-n", space)
    assert gone.returncode == 2
    assert "there are none" in gone.stderr


async def test_a_refused_configuration_fails_at_once_and_says_what_would_do(twin: RunningTwin, space: str) -> None:
    apply(twin, space, digits(momentum=0.5))

    def failed() -> dict[str, Any] | None:
        status = get(twin, space)["status"]
        return status if status.get("phase") == "Failed" else None

    status = await eventually(failed, within=60, every=0.2)
    assert status["attempt"] == 1
    assert status["restarts"]["last"]["cause"] == "InvalidConfig"
    assert "momentum" in status["reason"]
    assert "sgd" in status["reason"], "what only the trainer knows: the key goes with another optimizer"
    shown = twin.cli("status", "digits", "-n", space)
    assert shown.returncode == 1
    assert "InvalidConfig" in shown.stdout


async def test_more_gpus_than_there_are_wait_with_numbers_and_make_no_pods(twin: RunningTwin, space: str) -> None:
    job = digits()
    job["spec"]["resources"]["gpus"] = 3
    apply(twin, space, job)
    status = await until(twin, space, lambda status: "nvidia.com/gpu" in (status.get("reason") or ""))
    assert status["phase"] == "Queued"
    assert status["reason"].startswith("needs 2 × 3 nvidia.com/gpu; ")
    assert twin.kubectl("get", "pods", "-n", space, "-o", "name") == ""


async def test_who_wants_no_queue_waits_with_the_scheduler_s_words(twin: RunningTwin, space: str) -> None:
    job = digits()
    job["spec"]["resources"]["gpus"] = 3
    job["spec"]["runPolicy"] = {"schedulingPolicy": {"provider": "none"}}
    apply(twin, space, job)
    status = await until(twin, space, lambda status: "Insufficient" in (status.get("reason") or ""))
    assert status["phase"] == "Queued"
    assert re.fullmatch(r"[12] of 2 workers wait: 0/1 nodes are available: 1 Insufficient nvidia\.com/gpu\.", status["reason"])


async def test_the_other_samples_run_to_success(twin: RunningTwin, space: str) -> None:
    for name in ("hello", "own-script", "own-module"):
        twin.kubectl("apply", "-n", space, "-f", SAMPLES / f"{name}.yaml")
    for name in ("hello", "own-script", "own-module"):
        await succeeded(twin, space, name)
    logs = twin.cli("logs", "own-script", "-n", space, "--all")
    assert "rank 0 of 2: loss" in logs.stdout
    last = twin.cli("logs", "hello", "-n", space, "--rank", "1")
    assert last.stdout.strip() == "worker 1 of 2"


FAILING = """
import os, sys, time
import torch.distributed as dist
dist.init_process_group("gloo")
if dist.get_rank() == 1:
    print("loading shard 7")
    raise ValueError("labels out of range in shard 7")
dist.barrier()
"""


async def test_the_first_failing_rank_is_named_with_its_last_lines(twin: RunningTwin, space: str) -> None:
    """Rank 0 dies too, because its peer is gone; the evidence must be rank 1's all the same."""
    job = {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "failing"},
        "spec": {
            "framework": "torch",
            "command": ["python", "train.py"],
            "code": {"configMap": "failing"},
            "workers": 2,
            "runPolicy": {"backoffLimit": 0},
        },
    }
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "failing"}, "data": {"train.py": FAILING}}
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump_all([code, job]))

    def failed() -> dict[str, Any] | None:
        status = get(twin, space, "failing")["status"]
        return status if status.get("phase") == "Failed" else None

    status = await eventually(failed, within=60, every=0.2)
    last = status["restarts"]["last"]
    assert (last["pod"], last["rank"], last["exitCode"], last["cause"]) == ("failing-a1-worker-1", 1, 1, "Error")
    assert "ValueError: labels out of range in shard 7" in status["reason"]
    assert "loading shard 7" in last["evidence"]
    (event,) = [
        one for one in twin.kubectl.json("get", "events", "-n", space)["items"] if one["reason"] == "BackoffLimitExceeded"
    ]
    assert "labels out of range" in event["message"]
    shown = twin.cli("status", "failing", "-n", space).stdout
    assert "rank 1 in failing-a1-worker-1, exit code 1" in shown
    assert "labels out of range" in shown


async def test_images_from_a_claim_into_a_workspace_of_one_s_own(twin: RunningTwin, space: str) -> None:
    claims = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        for name in ("my-images", "results")
    ]
    write = (
        "import os\nfrom pathlib import Path\nfrom PIL import Image\nfrom sklearn.datasets import load_digits\n"
        "digits = load_digits()\n"
        "for number, (pixels, label) in enumerate(zip(digits.images[:400], digits.target)):\n"
        "    folder = Path(os.environ['DIR']) / f'digit-{label}'\n"
        "    folder.mkdir(exist_ok=True)\n"
        "    Image.fromarray((pixels * 15).astype('uint8')).save(folder / f'{number}.png')\n"
    )
    filler = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "filler"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "main",
                    "image": "ghcr.io/trainwright/torch:0.1.0",
                    "command": ["python", "-c", write],
                    "env": [{"name": "DIR", "value": "/out"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/out"}],
                }
            ],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "my-images"}}],
        },
    }
    job = yaml.safe_load_all((SAMPLES / "images-from-claim.yaml").read_text())
    (training,) = [one for one in job if one["kind"] == "TrainingJob"]
    training["spec"]["recipe"]["config"] = {"epochs": 2, "image_size": 16, "image_channels": 1}
    training["spec"] |= {"resources": {"gpus": 1}, "workspace": {"claim": "results"}}
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump_all([*claims, filler]))
    finished = lambda: twin.kubectl("get", "pod", "filler", "-n", space, "-o", "jsonpath={.status.phase}")  # noqa: E731
    await eventually(lambda: finished() == "Succeeded", within=60, every=0.2)
    apply(twin, space, training)
    status = await succeeded(twin, space, "images")
    path = Path(status["checkpoint"]["path"])
    assert path.parents[1].name == "images", "each job has a folder of its name in a claim that many may share"
    assert (path.parents[1] / "artifacts" / "report.json").exists()
    assert 0 < status["metrics"]["test_accuracy"] <= 1


async def test_secrets_placement_and_images_of_one_s_own(twin: RunningTwin, space: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"token": "t0ken"}}
    job = {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "own"},
        "spec": {
            "framework": "none",
            "image": "example.com/anything:1",
            "command": ["sh", "-c", 'echo "$TOKEN in $WHERE"'],
            "env": [
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
                {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            ],
            "placement": {"nodeSelector": {"disk": "fast"}},
        },
    }
    apply(twin, space, job)
    status = await until(twin, space, lambda status: "disk" in (status.get("reason") or ""), name="own")
    assert status["reason"] == "needs 1 pod; no node will do; 1 node without label disk=fast"
    twin.kubectl("label", "node", "node-1", "disk=fast")
    await until(twin, space, lambda status: 'secret "keys" not found' in (status.get("reason") or ""), name="own")
    apply(twin, space, secret)
    await succeeded(twin, space, "own")
    assert twin.cli("logs", "own", "-n", space).stdout.strip() == f"t0ken in {space}"

"""docs/contract.md from both sides: what the operator sets is what the page says and what the runtime reads, and back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from support.builders import JobBuilder, bare, job
from support.pods import ended
from support.twin import ROOT
from trainwright.api.causes import Cause as SeenCause
from trainwright.api.names import METRICS_PORT
from trainwright.observe.failure import EXIT_HUNG, EXIT_INVALID_CONFIG, EXIT_NO_CHECKPOINT, EXIT_PREFLIGHT
from trainwright.observe.progress import read_final_words
from trainwright.observe.workers import observe_worker
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Settings
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Cause, Exit
from trainwright_runtime.launch.verdict import Verdict, encode

PAGE = (ROOT / "docs" / "contract.md").read_text()
# Set by the launcher for its ranks, not by the operator.
LAUNCHERS = {"TRAINWRIGHT_STATUS_DIR"}


def environment(builder: JobBuilder, index: int = 0) -> dict[str, str]:
    """A worker's variables as its container gets them, the pod's address filled in."""
    pod = worker_pod(builder.typed(), index, Settings())
    (container,) = pod["spec"]["containers"]
    return {one["name"]: one.get("value", "10.1.2.3") for one in container["env"]}


def full() -> JobBuilder:
    data = [{"name": "train", "builtin": "digits"}, {"name": "more", "claim": "c"}]
    checkpoint = {"everySteps": 50, "keep": 7, "resume": "Never"}
    return job().workers(3).gpus(2).spec(data=data, checkpoint=checkpoint, workspace={"uri": "s3://bucket/runs"})


def test_what_the_operator_sets_is_what_the_runtime_reads() -> None:
    read = RankEnvironment.read(environment(full(), index=2))
    assert (read.job, read.namespace, read.attempt, read.workers, read.worker_index, read.nproc) == (
        "digits",
        "default",
        1,
        3,
        2,
        2,
    )
    assert (read.rank, read.world_size, read.master_addr) == (2, 3, "digits-worker-0.digits.default.svc")
    assert 29500 <= read.master_port < 31500
    assert read.master_port == RankEnvironment.read(environment(full(), index=0)).master_port
    assert (read.pod_ip, read.metrics_port) == ("10.1.2.3", METRICS_PORT)
    assert (read.checkpoint.every_steps, read.checkpoint.every_seconds) == (50, None)
    assert (read.checkpoint.keep, read.checkpoint.resume) == (7, "Never")
    assert read.workspace_uri == "s3://bucket/runs/default/digits"
    assert {source.name: (str(source.path), source.builtin) for source in read.data} == {
        "train": ("None", "digits"),
        "more": ("/data/more", None),
    }
    assert read.config is not None


def test_without_a_word_on_checkpoints_they_are_due_by_time() -> None:
    read = RankEnvironment.read(environment(job()))
    assert (read.checkpoint.every_steps, read.checkpoint.every_seconds) == (None, 300)


def test_every_variable_is_on_the_page_and_every_one_of_the_page_is_set() -> None:
    written = set(re.findall(r"`(TRAINWRIGHT_[A-Z_]+)`", PAGE))
    by_time = full().spec(checkpoint={"everySeconds": 5})
    given = {name for builder in (full(), by_time) for name in environment(builder) if name.startswith("TRAINWRIGHT_")}
    assert given == written - LAUNCHERS


def test_torch_s_own_variables_are_on_the_page() -> None:
    for name in environment(full()):
        assert f"`{name}`" in PAGE or name.startswith("TRAINWRIGHT_"), name


def test_sklearn_s_own_variables_are_on_the_page_and_read() -> None:
    builder = job().spec(framework="sklearn", workers=2, resources={"cpu": "2500m"})
    given = environment(builder, index=1)
    for name in given:
        assert f"`{name}`" in PAGE or name.startswith("TRAINWRIGHT_"), name
    assert (given["LOKY_MAX_CPU_COUNT"], given["OMP_NUM_THREADS"]) == ("2", "2")
    read = RankEnvironment.read(given)
    assert (read.rank, read.world_size, read.master_addr) == (1, 2, "digits-worker-0.digits.default.svc")
    assert "LOKY_MAX_CPU_COUNT" not in environment(job().spec(framework="sklearn")), "no limit, nothing to hold joblib to"


def test_tensorflow_s_own_variables_are_on_the_page_and_hold_it_to_its_cores() -> None:
    builder = job().spec(framework="tensorflow", workers=2, resources={"cpu": "1500m"})
    given = environment(builder, index=1)
    for name in given:
        assert f"`{name}`" in PAGE or name.startswith("TRAINWRIGHT_"), name
    assert (given["TF_NUM_INTRAOP_THREADS"], given["TF_NUM_INTEROP_THREADS"]) == ("1", "2")
    cluster, task = json.loads(given["TF_CONFIG"]).values()
    assert task == {"type": "worker", "index": 1}
    assert len({address.rpartition(":")[2] for address in cluster["worker"]}) == 2, "pods that share a machine need a port each"
    assert "TF_CONFIG" not in environment(job().spec(framework="tensorflow")), "one worker has nobody to find"


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        (job(), ["trainwright-launch", "recipe", "image-classification"]),
        (
            bare().spec(entrypoint={"module": "pkg.train", "function": "main", "args": ["--lr", "1"]}),
            ["trainwright-launch", "module", "pkg.train", "--function", "main", "--", "--lr", "1"],
        ),
        (bare().spec(entrypoint={"module": "train"}), ["trainwright-launch", "module", "train"]),
        (bare().spec(command=["torchrun", "x.py"]), ["trainwright-launch", "command", "--", "torchrun", "x.py"]),
        (bare().spec(framework="sklearn", command=["python", "x.py"]), ["trainwright-launch", "command", "--", "python", "x.py"]),
        (bare().command("sh", "-c", "true"), ["sh", "-c", "true"]),
    ],
)
def test_what_runs_is_what_the_page_says_and_the_launcher_understands(builder: JobBuilder, words: list[str]) -> None:
    from trainwright_runtime.launch.cli import parse

    pod = worker_pod(builder.typed(), 0, Settings())
    assert pod["spec"]["containers"][0]["command"] == words
    if words[0] == "trainwright-launch":
        assert parse(words[1:]).plan is not None


def test_exit_codes_and_causes_are_the_same_words_on_both_sides() -> None:
    ours = (EXIT_INVALID_CONFIG, EXIT_NO_CHECKPOINT, EXIT_PREFLIGHT, EXIT_HUNG)
    assert ours == (Exit.INVALID_CONFIG, Exit.NO_CHECKPOINT, Exit.PREFLIGHT, Exit.HUNG)
    assert {cause.value for cause in Cause} <= {cause.value for cause in SeenCause}
    for code in (Exit.INVALID_CONFIG, Exit.NO_CHECKPOINT, Exit.PREFLIGHT, Exit.HUNG, Exit.TERMINATED):
        assert f"| {int(code)} |" in PAGE


@pytest.mark.parametrize("cause", list(Cause))
def test_a_launcher_s_last_words_are_understood(cause: Cause) -> None:
    codes = {Cause.INVALID_CONFIG: 64, Cause.NO_CHECKPOINT: 65, Cause.PREFLIGHT: 66, Cause.HUNG: 67, Cause.TERMINATED: 143}
    code = codes.get(cause, 1)
    said = encode(Verdict(rank=3, exit_code=code, cause=cause, message="why", lines=("a", "b"), time=1795254000.5)).decode()
    failure = _worker(ended(_pod(), code, message=said)).failure
    assert failure is not None
    assert (failure.cause.value, failure.rank, failure.message, failure.evidence, failure.time) == (
        cause.value,
        3,
        "why",
        "a\nb",
        1795254000.5,
    )


def test_the_last_words_of_a_success_are_understood() -> None:
    said = encode(Verdict(rank=0, exit_code=0, message="done", progress={"step": 9, "metrics": {"acc": 1.0}})).decode()
    progress = read_final_words(_worker(ended(_pod(), 0, message=said)).final_words)
    assert progress is not None
    assert (progress.step, progress.metrics) == (9, {"acc": 1.0})


def test_the_example_of_the_page_is_read_whole() -> None:
    (example,) = re.findall(r"```json\n(\{\"step\".*?)```", PAGE, re.DOTALL)
    said = read_final_words(json.dumps({"progress": json.loads(example)}))
    assert said is not None
    assert (said.step, said.total_steps, said.resumed_from, said.checkpoint_step, said.main) == (
        120,
        450,
        90,
        100,
        "val_accuracy=0.971",
    )


def _pod() -> dict[str, Any]:
    pod = worker_pod(job().typed(), 0, Settings())
    return pod | {"status": {"phase": "Pending"}}


def _worker(pod: dict[str, Any]) -> Any:
    worker = observe_worker(pod)
    assert worker is not None
    return worker


def test_every_pod_satisfies_the_restricted_standard() -> None:
    fetched = {"name": "fetched", "uri": "s3://bucket/train"}
    spec = worker_pod(full().spec(data=[fetched]).typed(), 0, Settings())["spec"]
    containers = [*spec["initContainers"], *spec["containers"]]
    assert len(containers) == 2
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert {"name": "scratch", "mountPath": "/tmp"} in container["volumeMounts"], "what it may write to besides"
    kinds = {next(key for key in volume if key != "name") for volume in spec["volumes"]}
    assert kinds <= {"persistentVolumeClaim", "configMap", "downwardAPI", "emptyDir"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}

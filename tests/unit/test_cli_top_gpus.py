"""`trainwright top --gpus`: who holds GPUs on which node, who waits in what order and why, and when room is expected."""

from __future__ import annotations

from typing import Any

import pytest
from test_cli_top import Fenced

from support.builders import job
from support.cli import CommandLine
from support.gangs import put_class, put_node
from trainwright.cli.gpu_tables import about, spans
from trainwright.cluster.admission import ADMISSION
from trainwright.cluster.port import PODS, TRAINING_JOBS

WHY = "needs 2 × 4 nvidia.com/gpu; 1 of 8 free, most on one node 1 (big); 1 job ahead in queue team-a"
WAITS = {
    "phase": "Queued",
    "conditions": [{"type": "Queued", "status": "True", "reason": "WaitsForRoom", "lastTransitionTime": "2026-11-21T09:00:00Z"}],
}


def pod(cli: CommandLine, job_name: str, index: int, gpus: int, node: str) -> None:
    """A worker's pod as the operator makes it, on its node."""
    name = f"{job_name}-a1-worker-{index}"
    uid = next(
        one["metadata"]["uid"] for one in cli.do(cli.cluster.list(TRAINING_JOBS)).items if one["metadata"]["name"] == job_name
    )
    labels = {"trainwright.dev/job": job_name, "trainwright.dev/attempt": "1", "trainwright.dev/worker-index": str(index)}
    obj = {
        "metadata": {"name": name, "namespace": "default", "labels": labels, "ownerReferences": [{"uid": uid}]},
        "spec": {"nodeName": node, "containers": [{"name": "worker", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}]},
    }
    cli.do(cli.cluster.create(PODS, obj))


@pytest.fixture
def busy(cli: CommandLine) -> CommandLine:
    """A job that runs for five minutes more on two nodes, a notebook, and two jobs that wait: one of them is urgent."""
    for name in ("big", "other"):
        cli.do(put_node(cli.cluster, name, 4))
    cli.do(put_node(cli.cluster, "away", 8, ready=False))
    cli.do(put_class(cli.cluster, "urgent", 100))
    policy = {"provider": "capacity"}
    cli.put(
        job("digits").workers(2).gpus(3),
        job("waits").workers(2).gpus(3).run_policy(schedulingPolicy={**policy, "queue": "team-a"}),
        job("first").gpus(3).run_policy(schedulingPolicy={**policy, "priorityClass": "urgent"}),
    )
    cli.say("digits", phase="Running", progress={"step": 1, "etaSeconds": 300})
    cli.say("waits", **WAITS, reason=WHY)
    cli.say("first", **WAITS, reason="needs 3 nvidia.com/gpu; 1 of 8 free, most on one node 1 (big)")
    for index, node in enumerate(("big", "other")):
        pod(cli, "digits", index, 3, node)
    cli.pod("notebook", gpus=1, node="other")
    return cli


@pytest.mark.parametrize("columns", [80, 160])
def test_who_holds_what_and_who_waits_for_it(busy: CommandLine, columns: int) -> None:
    busy.width(columns)
    shown = busy("top", "--gpus")
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= columns
    assert "GPUs 7 of 8 in use" in shown.words
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["big", "4", "1", "default/digits", "worker", "0", "3", "Running", "~5m00s"] in lines
    assert ["pod", "default/notebook", "1", "-"] in lines
    assert ["away", "8", "not", "ready"] in lines
    assert shown.words.index("1. default/first 3 GPUs priority 100 starts ~5m00s") < shown.words.index("2. default/waits")
    assert "2. default/waits 2 × 3 GPUs queue team-a starts -" in shown.words
    assert WHY in shown.words


def test_json_has_it_all(busy: CommandLine) -> None:
    shown = busy("top", "--gpus", "-o", "json").json()
    assert shown["gpus"] == {"capacity": 8, "inUse": 7, "notReadyNodes": ["away"]}
    assert [(one["name"], one["gpus"], one["free"], one["away"]) for one in shown["nodes"]] == [
        ("away", 8, 8, "not ready"),
        ("big", 4, 1, None),
        ("other", 4, 0, None),
    ]
    digits, notebook = shown["nodes"][2]["holders"]
    assert digits == {
        "namespace": "default",
        "job": "digits",
        "pod": None,
        "workers": [1],
        "gpus": 3,
        "phase": "Running",
        "endsInSeconds": 300.0,
    }
    assert (notebook["job"], notebook["pod"], notebook["gpus"], notebook["endsInSeconds"]) == (None, "notebook", 1, None)
    assert [(one["position"], one["name"], one["startsInSeconds"]) for one in shown["queue"]] == [
        (1, "first", 300.0),
        (2, "waits", None),
    ]
    assert shown["queue"][1]["needs"] == {"workers": 2, "gpus": 3}


def test_nobody_promises_what_depends_on_a_job_that_has_not_said_when_it_ends(busy: CommandLine) -> None:
    busy.say("digits", progress={"etaSeconds": None})
    shown: list[dict[str, Any]] = busy("top", "--gpus", "-o", "json").json()["queue"]
    assert [one["startsInSeconds"] for one in shown] == [None, None]


def test_the_queue_is_one_for_all_namespaces(busy: CommandLine) -> None:
    names = [one["name"] for one in busy("top", "--gpus", "-n", "elsewhere", "-o", "json").json()["queue"]]
    assert names == ["first", "waits"]


def test_without_the_right_to_see_nodes_the_queue_of_the_namespace_is_shown(cli: CommandLine) -> None:
    cli.cluster = Fenced(admission=ADMISSION)
    cli.put(job("waits").gpus(2))
    cli.say("waits", **WAITS, reason=WHY)
    shown = cli("top", "--gpus")
    assert "you may not list this cluster's nodes and pods" in shown.words
    assert "1. default/waits 2 GPUs starts -" in shown.words
    assert cli("top", "--gpus", "-o", "json").json()["nodes"] is None


def test_an_empty_cluster(cli: CommandLine) -> None:
    assert cli("top", "--gpus").words == "GPUs 0 of 0 in use no node has GPUs queue nobody waits"


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0, 2-3, 7")])
def test_spans_of_workers(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text


@pytest.mark.parametrize(("length", "text"), [(None, "-"), (0.4, "~0s"), (3720, "~1h02m")])
def test_expectations(length: float | None, text: str) -> None:
    assert about(length) == text

"""`trainwright top`, and `status` of all jobs: what they say, at the width of a small terminal and of a wide one."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import job
from support.cli import CommandLine
from trainwright.cli.overview import Gpus, pod_gpus
from trainwright.cli.tables import short
from trainwright.cluster.admission import ADMISSION
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import Forbidden, ObjectList, Resource

WHY = "4 of 4 workers wait: 0/3 nodes are available: 1 node(s) had untolerated taint {gpu: reserved}, 2 Insufficient nvidia.com/gpu."
DIED = "broken-a1-worker-0 exited with code 3: RuntimeError: CUDA out of memory: tried to allocate 20.00 GiB on device 0"
RUNNING = {
    "phase": "Running",
    "workers": {"desired": 2, "running": 2, "ready": "2/2"},
    "progress": {"step": 120, "totalSteps": 450, "percent": 26.7, "samplesPerSecond": 1234.5, "summary": "120/450 (26%)"},
    "mainMetric": "val_accuracy=0.971",
    "phaseSince": "2026-11-21T09:00:00Z",
    "time": {"queuedSeconds": 10, "productiveSeconds": 90, "lostSeconds": 65},
    "heldSeconds": 3600,
    "checkpoint": {"step": 100, "time": "2026-11-21T09:00:30Z"},
    "restarts": {"failure": 1, "infrastructure": 2, "total": 3},
}


@pytest.fixture
def busy(cli: CommandLine) -> CommandLine:
    """A job that trains, one that waits, one that failed and one that is done; 8 GPUs on a ready node, 8 on one that isn't."""
    cli.put(
        job("digits").workers(2).gpus(2), job("a-name-that-is-longer-than-a-small-column").workers(4), job("broken"), job("done")
    )
    cli.say("digits", **RUNNING)
    cli.say("a-name-that-is-longer-than-a-small-column", phase="Queued", reason=WHY)
    cli.say("broken", phase="Failed", reason=DIED)
    cli.say("done", phase="Succeeded", workers={"desired": 1, "succeeded": 1})
    cli.node("big", gpus=8)
    cli.node("away", gpus=8, ready=False)
    cli.pod("digits-a1-worker-0", gpus=2, node="big", job="digits")
    cli.pod("digits-a1-worker-1", gpus=2, node="big", job="digits")
    cli.pod("notebook", gpus=1, node="big")
    cli.pod("ended", gpus=4, node="big", phase="Succeeded")
    cli.pod("lost", gpus=4, node="away")
    cli.pod("waits", gpus=4, node=None, phase="Pending")
    return cli


@pytest.mark.parametrize("command", [("top",), ("status",)], ids=" ".join)
@pytest.mark.parametrize("columns", [80, 200])
def test_names_and_reasons_are_whole_at_every_width(busy: CommandLine, command: tuple[str, ...], columns: int) -> None:
    busy.width(columns)
    shown = busy(*command)
    assert shown.code == 0
    assert max(len(line) for line in shown.out.splitlines()) <= columns
    squeezed = shown.out.replace("\n", "").replace(" ", "")
    for text in (WHY, DIED):
        assert text.replace(" ", "") in squeezed
    assert "…" not in shown.out
    assert "a-name-that-is-longer-than-a-small-column" in shown.out
    assert "val_accuracy=0.971 " in shown.out


def test_a_running_job_shows_where_it_is(busy: CommandLine) -> None:
    busy.width(200)
    line = next(line for line in busy("top").out.splitlines() if line.startswith("digits"))
    name, phase, workers, gpus, steps, percent, speed, metric, _, lost, saved, gpu_hours, restarts, age = line.split()
    assert (name, phase, workers, gpus) == ("digits", "Running", "2/2", "4")
    assert (steps, percent, speed, metric, restarts) == ("120/450", "(26%)", "1,234", "val_accuracy=0.971", "3")
    assert lost == "1m05s"
    assert saved.endswith(("s", "m", "h"))
    assert float(gpu_hours.replace(",", "")) > 1
    assert age.endswith("s")


def test_a_small_terminal_shows_the_same_in_short(busy: CommandLine) -> None:
    line = next(line for line in busy("top").out.splitlines() if line.startswith("digits"))
    assert line.split()[:6] == ["digits", "Running", "2/2", "27%", "1.2k/s", "val_accuracy=0.971"]


@pytest.mark.parametrize(
    ("columns", "there", "missing"),
    [
        (80, ["DONE", "GOOD", "AGE"], ["SAMPLES/S", "PROGRESS"]),
        (100, ["DONE", "GOOD", "LOST", "RESTARTS", "SAVED"], ["SAMPLES/S"]),
        (160, ["PROGRESS", "SAMPLES/S", "GOODPUT", "LOST", "SAVED", "GPU-H", "RESTARTS", "AGE"], []),
    ],
)
def test_more_room_shows_more(cli: CommandLine, columns: int, there: list[str], missing: list[str]) -> None:
    cli.put(job("digits").workers(2).gpus(2))
    cli.say("digits", **RUNNING)
    cli.width(columns)
    lines = cli("top").out.splitlines()
    (head,) = [line.split() for line in lines if line.startswith("NAME")]
    assert set(there) <= set(head)
    assert not set(missing) & set(head)
    assert max(map(len, lines)) <= columns


def test_a_column_that_says_nothing_of_any_job_is_left_out(cli: CommandLine) -> None:
    cli.put(job("digits"))
    cli.say("digits", phase="Queued", reason="waits")
    cli.width(200)
    assert not {"LOST", "SAVED", "GPU-H"} & set(cli("top").words.split())


def test_gpus_count_what_is_held_on_nodes_that_are_ready(busy: CommandLine) -> None:
    shown = busy("top")
    assert "GPUs 5 of 8 in use (away not ready)" in shown.words
    assert "1 Running, 1 Queued, 1 Failed, 1 Succeeded" in shown.words


@pytest.mark.parametrize(
    ("resource", "counts"),
    [
        pytest.param("nvidia.com/gpu", True, id="whole ones"),
        pytest.param("amd.com/gpu", True, id="of another make"),
        pytest.param("nvidia.com/gpu.shared", True, id="slices of time"),
        pytest.param("nvidia.com/mig-1g.10gb", True, id="a part of one"),
        pytest.param("rdma/hca", False, id="a network card"),
        pytest.param("cpu", False, id="cores"),
    ],
)
def test_what_counts_as_a_gpu(resource: str, counts: bool) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {resource: "4"}}
    limits = {"resources": {"limits": {resource: "3"}}}
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [limits]}, "status": {"phase": "Running"}}
    gpus = Gpus.count([{"metadata": {"name": "n"}, "status": ready}], [pod])
    assert (gpus.capacity, gpus.in_use) == ((4, 3) if counts else (0, 0))


def test_json_has_everything_and_nothing_else_is_said(busy: CommandLine) -> None:
    shown = busy("top", "--output", "json").json()
    assert shown["gpus"] == {"capacity": 8, "inUse": 5, "notReadyNodes": ["away"]}
    assert shown["queue"] == [{"namespace": "default", "name": "a-name-that-is-longer-than-a-small-column", "reason": WHY}]
    names = [one["name"] for one in shown["jobs"]]
    assert names[:2] == ["digits", "a-name-that-is-longer-than-a-small-column"], "who runs comes before who waits"
    assert set(names[2:]) == {"broken", "done"}
    first = shown["jobs"][0]
    assert {
        key: first[key] for key in ("phase", "waits", "workers", "gpus", "percent", "samplesPerSecond", "metric", "restarts")
    } == {
        "phase": "Running",
        "waits": False,
        "workers": {"ready": 2, "desired": 2},
        "gpus": 4,
        "percent": 26.7,
        "samplesPerSecond": 1234.5,
        "metric": "val_accuracy=0.971",
        "restarts": 3,
    }
    assert (first["step"], first["totalSteps"], first["lostSeconds"]) == (120, 450, 65)
    assert first["checkpoint"]["step"] == 100
    assert first["checkpoint"]["ageSeconds"] > 0
    assert first["gpuHours"] > 4, "the time since the phase began counts too"
    waits = shown["jobs"][1]
    assert (waits["checkpoint"], waits["step"], waits["gpuHours"], waits["lostSeconds"]) == (None, None, None, 0)
    assert 90 <= first["goodput"] <= 100, "the time since the phase began counts too"


def test_a_job_that_no_operator_has_seen_says_so(cli: CommandLine) -> None:
    cli.put(job("digits"))
    shown = cli("top")
    assert "digits New 0/1" in shown.words
    assert "no operator has looked at it yet; `trainwright doctor` says whether one runs" in shown.words


def test_jobs_of_one_namespace_or_of_all(cli: CommandLine) -> None:
    cli.put(job("mine"), job("theirs").namespace("team-b"))
    for command in ("top", "status"):
        assert "theirs" not in cli(command).out
        assert "mine" not in cli(command, "-n", "team-b").out
        everything = cli(command, "-A").out
        assert "default/mine" in everything
        assert "team-b/theirs" in everything.replace("\n", "")
        assert cli(command, "-A", "-n", "x").code == 2


def test_the_namespace_of_the_context_is_the_default(cli: CommandLine) -> None:
    cli.put(job("mine"), job("theirs").namespace("team-b"))
    cli.cluster.namespace = "team-b"
    assert [one["name"] for one in cli("top", "-o", "json").json()["jobs"]] == ["theirs"]
    assert cli("status", "theirs").code == 0


class Fenced(MemoryCluster):
    """A cluster of which this user sees one namespace."""

    async def list(self, resource: Resource, namespace: str | None = None, **kwargs: Any) -> ObjectList:
        if namespace is None:
            raise Forbidden(f"{resource.plural} is forbidden at the cluster scope")
        return await super().list(resource, namespace, **kwargs)


def test_without_the_right_to_see_nodes_only_the_gpus_are_missing(cli: CommandLine) -> None:
    cli.cluster = Fenced(admission=ADMISSION)
    cli.put(job("digits").gpus(2))
    cli.say("digits", **RUNNING)
    cli.pod("digits-a1-worker-0", gpus=2, node="big", job="digits")
    assert "GPUs: you may not list this cluster's nodes and pods" in cli("top").words
    shown = cli("top", "-o", "json").json()
    assert shown["gpus"] is None
    assert shown["jobs"][0]["gpus"] == 2
    refused = cli("top", "-A")
    assert refused.code == 1
    assert "trainwright doctor" in refused.err


@pytest.mark.parametrize("name", ["digits", "a-name-with-its-reason-on-a-line-of-its-own"])
def test_what_a_trainer_says_is_never_taken_for_markup(cli: CommandLine, name: str) -> None:
    cli.put(job(name))
    cli.say(name, phase="Queued", reason="waits for [bold]node[/bold] and [/nothing]", mainMetric="[red]=1")
    for shown in (cli("top").words, cli("status").words, cli("status", name).words):
        assert "waits for [bold]node[/bold] and [/nothing]" in shown


def test_an_init_container_counts_where_it_asks_for_more() -> None:
    pod = {"spec": {"nodeName": "n", "containers": [], "initContainers": []}}
    asks = lambda count: {"resources": {"limits": {"nvidia.com/gpu": str(count)}}}  # noqa: E731
    pod["spec"] |= {"containers": [asks(1), asks(1)], "initContainers": [asks(3), asks(1)]}
    assert pod_gpus(pod) == 3
    pod["spec"]["containers"].append(asks(2))
    assert pod_gpus(pod) == 4
    assert Gpus.count([], [pod]) == Gpus(capacity=0, in_use=0, not_ready=())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.25, "0.2"),
        (7.04, "7.0"),
        (9.97, "10"),
        (950, "950"),
        (999.6, "1.0k"),
        (1234.5, "1.2k"),
        (34_000, "34k"),
        (2.5e6, "2.5M"),
    ],
)
def test_numbers_in_four_characters(number: float, text: str) -> None:
    assert short(number) == text

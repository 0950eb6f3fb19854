"""The operator's command line, and what of it reaches decisions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.builders import job
from support.serving import deployment
from trainwright.api.deployment import parse as parse_deployment
from trainwright.controller.options import arguments, settings_of
from trainwright.plan.catalogue import names
from trainwright.plan.pods import worker_pod
from trainwright.plan.serving.pods import server_deployment
from trainwright.plan.types import Settings

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def resources(settings: Settings, **asked: str | int) -> dict[str, dict[str, str]]:
    pod = worker_pod(job().spec(resources=asked).typed(), 0, settings)
    found: dict[str, dict[str, str]] = pod["spec"]["containers"][0]["resources"]
    return found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--image", "torch"], "'torch' is no NAME=REFERENCE", id="no reference"),
        pytest.param(["--image", "torch="], "'torch=' is no NAME=REFERENCE", id="an empty reference"),
        pytest.param(["--image", "torch=a b"], "'torch=a b' is no NAME=REFERENCE", id="a reference with a blank"),
        pytest.param(
            ["--image", "pytorch=a/b:1"], "'pytorch' is not in the catalogue, which has base, gateway", id="unknown name"
        ),
        pytest.param(["--default-cpu", "two"], "'two' is not a quantity", id="cpu that is none"),
        pytest.param(["--default-memory", "1GB"], "'1GB' is not a quantity", id="memory that is none"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_do(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
    assert f"argument {words[0]}: {said}" in capsys.readouterr().err


def test_an_image_of_ones_own_stands_in_for_one_name_only() -> None:
    settings = settings_of(arguments(["--image", "torch=mine.example/torch@sha256:00", "--tag", "7"]))
    torch, sklearn = (worker_pod(one.typed(), 0, settings) for one in (job(), job().spec(framework="sklearn")))
    assert torch["spec"]["containers"][0]["image"] == "mine.example/torch@sha256:00"
    assert sklearn["spec"]["containers"][0]["image"] == "ghcr.io/trainwright/sklearn:7"


def test_a_server_that_is_not_ours_can_come_from_elsewhere_too() -> None:
    raw = deployment(server="tfserving")
    raw["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": "1", "creationTimestamp": "2026-11-21T09:00:00Z"}
    for words, image in (
        ([], "tensorflow/serving:2.19.1"),
        (["--image", "tfserving=mirror.example/tf:2"], "mirror.example/tf:2"),
    ):
        made = server_deployment(parse_deployment(raw), None, settings_of(arguments(words)))
        assert made["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_defaults_are_requests_and_give_way_to_what_a_job_names() -> None:
    settings = settings_of(arguments(["--default-cpu", "500m", "--default-memory", "1Gi"]))
    assert resources(settings) == {"requests": {"cpu": "500m", "memory": "1Gi"}}
    assert resources(settings, cpu="2") == {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2"}}
    assert resources(settings, gpus=1, memory="4Gi") == {
        "requests": {"cpu": "500m", "memory": "4Gi", "nvidia.com/gpu": "1"},
        "limits": {"memory": "4Gi", "nvidia.com/gpu": "1"},
    }
    assert resources(settings_of(arguments([]))) == {}


def test_the_page_of_operations_names_every_option_and_every_image() -> None:
    page = OPERATIONS.read_text()
    table = page[page.index("| flag |") : page.index("`/healthz` answers")]
    told = set(re.findall(r"`(--[a-z-]+)", table))
    options = {f"--{name.replace('_', '-')}" for name in vars(arguments([]))}
    assert told == options
    (row,) = [line for line in table.splitlines() if line.startswith("| `--image")]
    assert set(re.findall(r"`([a-z-]+)`", row.split("|")[3])) == set(names())


def test_schedulers_with_other_names_are_told_by_their_providers() -> None:
    options = arguments(["--scheduler-name", "coscheduling=gangs", "--scheduler-name", "kai=kai-2"])
    assert settings_of(options).scheduler_names == {"coscheduling": "gangs", "kai": "kai-2"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scheduler-name", "native=a"], "'native' has no scheduler with a name; these have: volcano, coscheduling, kai"),
        (["--scheduler-name", "kai"], "'kai' is no PROVIDER=NAME, such as coscheduling=gangs"),
        (["--namespace", "a", "--scheduler", "kueue"], "--scheduler kueue reads all of Kueue's flavors"),
    ],
)
def test_names_of_schedulers_that_make_no_sense_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
    assert said in capsys.readouterr().err

"""`trainwright explain`: the reference at hand says what the schema says, and finds what is meant."""

from __future__ import annotations

import pytest

from support.cli import CommandLine
from trainwright.cli.fields import find, kinds, paths


def test_a_field_by_its_whole_path(cli: CommandLine) -> None:
    shown = cli("explain", "spec.runPolicy.backoffLimit", "-o", "json").json()
    assert shown["path"] == "spec.runPolicy.backoffLimit"
    assert (shown["type"], shown["required"], shown["default"]) == ("integer", False, 3)
    assert shown["constraints"] == {"minimum": 0, "maximum": 1000}
    assert "may change while the job lives" in shown["remarks"]
    assert "restart the gang" in shown["description"]


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("runPolicy", "spec.runPolicy"),
        ("backoffLimit", "spec.runPolicy.backoffLimit"),
        ("RUNPOLICY.backofflimit", "spec.runPolicy.backoffLimit"),
        ("tj.spec.workers", "spec.workers"),
        ("spec.env[0].valueFrom", "spec.env[].valueFrom"),
        ("env.valueFrom", "spec.env[].valueFrom"),
        ("suspend", "spec.runPolicy.suspend"),
        ("checkpoint", "spec.checkpoint"),
        ("workers", "spec.workers"),
        ("status.phase", "status.phase"),
        ("torch/image-classification.micro_batch", "torch/image-classification.micro_batch"),
    ],
)
def test_names_that_are_clear_are_understood(asked: str, path: str) -> None:
    assert find(asked).path == path


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("backofLimit", "did you mean spec.runPolicy.backoffLimit"),
        ("spec.runpolcy", "did you mean spec.runPolicy?"),
        ("torch/image-clasification", "did you mean torch/image-classification?"),
        ("image-classification", "say which: horovod/image-classification, "),
        ("xyzzy", "`trainwright explain` lists what there is"),
        ("secretKeyRef.name.x", "there is no such field"),
        ("name", "say which: spec.recipe.name, spec.env[].name"),
    ],
)
def test_names_that_are_not_are_answered_with_what_is(cli: CommandLine, asked: str, says: str) -> None:
    shown = cli("explain", asked)
    assert shown.code == 2
    assert says in shown.err
    assert shown.out == ""


def test_every_name_that_is_listed_is_found(cli: CommandLine) -> None:
    names = cli("explain", "-o", "json").json()["fields"]
    assert names == paths()
    assert len(names) > 100
    for name in names:
        assert find(name).path.replace("[]", "") == name


def test_choices_limits_and_rules_are_shown(cli: CommandLine) -> None:
    assert "allowed Equal, Exists" in cli("explain", "placement.tolerations.operator").words
    assert "must be ≥ 1" in cli("explain", "spec.workers").words
    env = cli("explain", "env").words
    assert "at most one of value and valueFrom" in env
    assert "fixed once the job exists" in env
    assert "required yes" in cli("explain", "framework").words
    assert "type quantity" in cli("explain", "resources.memory").words


def test_a_field_shows_what_lies_below_it_and_all_of_it_if_wanted(cli: CommandLine) -> None:
    shown = cli("explain", "env").words
    assert "valueFrom" in shown
    assert "secretKeyRef" not in shown
    assert "valueFrom.secretKeyRef.key" in cli("explain", "env", "--recursive").words


def test_a_recipe_shows_its_settings_and_where_they_come_from(cli: CommandLine) -> None:
    shown = cli("explain", "torch/image-classification")
    assert "global_batch (integer = 64)" in shown.words
    assert "optimizer (adam | adamw | sgd = adamw)" in shown.words
    assert "trainer_images/torch/trainwright_torch/image_classification/config.py" in shown.words
    epochs = cli("explain", "torch/image-classification.epochs", "-o", "yaml").out
    assert "default: 15" in epochs
    assert "minimum: 1" in epochs


@pytest.mark.parametrize("columns", [80, 200])
def test_no_line_is_wider_than_the_screen_and_nothing_is_cut(cli: CommandLine, columns: int) -> None:
    cli.width(columns)
    for name in ("spec", "status", "torch/image-classification"):
        shown = cli("explain", name, "--recursive")
        assert max(len(line) for line in shown.out.splitlines()) <= columns
        squeezed = shown.out.replace(" ", "").replace("\n", "")
        for field in next(iter(find(name).fields)).walk():
            assert field.name in squeezed
    spec, *_ = kinds()
    contents = cli("explain").words
    for field in spec.fields:
        assert field.name in contents
        assert field.description in contents

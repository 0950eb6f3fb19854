"""The API's types: what a bad job is told, quantities, and that rules say the same in both languages."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import bare, job
from trainwright.api.crd import definition, structural
from trainwright.api.errors import InvalidSpec
from trainwright.api.job import check, parse, read_status
from trainwright.api.kinds import KINDS, TRAINING_JOB
from trainwright.api.model import amount, whole_cores
from trainwright.api.recipes import problems
from trainwright.api.reference import reference


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"worker": 2}, "spec.worker: is not a field of a TrainingJob; known here: framework, image, recipe", id="unknown field"),
        pytest.param({"resources": {"gpu": 1}}, "spec.resources.gpu: is not a field of a TrainingJob; known here: gpus, gpuResource, cpu, memory, sharedMemory", id="unknown field below"),
        pytest.param({"env": [{"name": "A", "val": "1"}]}, "spec.env[0].val: is not a field of a TrainingJob; known here: name, value, valueFrom", id="unknown field in a list"),
        pytest.param({"framework": "keras"}, "spec.framework: 'keras' is not one of 'torch', 'tensorflow', 'horovod', 'jax', 'sklearn' or 'none'", id="unknown word"),
        pytest.param({"framework": None}, "spec.framework: is missing", id="missing field"),
        pytest.param({"workers": 0}, "spec.workers: 0: input should be greater than or equal to 1", id="too few"),
        pytest.param({"resources": {"memory": "16 GB"}}, "spec.resources.memory: '16 GB' does not look like", id="no quantity"),
        pytest.param({"framework": "sklearn", "resources": {"gpus": 1}}, "spec.resources.gpus: scikit-learn trains on CPUs", id="GPUs for sklearn"),
        pytest.param({"data": [{"name": "train", "builtin": "mnist"}]}, "spec.data[0].builtin: 'mnist' is not one of 'digits', 'breast_cancer'", id="unknown builtin"),
        pytest.param({"runPolicy": {"schedulingPolicy": {"provider": "slurm"}}}, "spec.runPolicy.schedulingPolicy.provider: 'slurm' is not one of 'none', 'capacity', 'native'", id="unknown provider"),
        pytest.param({"runPolicy": {"schedulingPolicy": {"priorityClass": "a"}}, "placement": {"priorityClassName": "b"}}, "spec.runPolicy.schedulingPolicy.priorityClass: it is another class than spec.placement.priorityClassName", id="two priorities"),
        pytest.param({"runPolicy": {"schedulingPolicy": {"scheduleTimeoutSeconds": 0}}}, "spec.runPolicy.schedulingPolicy.scheduleTimeoutSeconds: 0", id="no time at all"),
        pytest.param({"env": [{"name": "PET_X"}]}, "spec.env[0].name: this name belongs to the contract", id="reserved"),
    ],
)  # fmt: skip
def test_a_bad_job_is_told_the_field_the_value_and_what_would_do(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        check(job().spec(**change).build())
    assert said in str(refusal.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidSpec) as refusal:
        check(job().spec(workers=0, framework="x", foo=1).build())
    assert len(refusal.value.errors) == 3


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"kind": "Pod", "apiVersion": "v1"}, "v1 Pod is not trainwright.dev/v1alpha1 TrainingJob"),
        ({**job().build(), "metadata": {}}, "metadata.name: is missing"),
        ({**job().build(), "spec": None}, "spec: is missing"),
    ],
)
def test_what_is_no_job_at_all(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match="is"):
        check(raw)
    with pytest.raises(InvalidSpec) as refusal:
        check(raw)
    assert said in str(refusal.value)


def test_a_status_of_another_version_is_read_as_far_as_it_is_known() -> None:
    assert read_status(job().stored(status={"phase": "Running", "fromTheFuture": 1})).phase == "Running"
    assert read_status(job().stored(status={"phase": "Unheard"})).phase is None


def test_numbers_do_for_quantities() -> None:
    spec = parse(job().spec(resources={"cpu": 2, "memory": "1Gi"}).stored()).spec
    assert spec.resources.cpu == "2"


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("4", 4.0),
        ("500m", 0.5),
        ("1.5", 1.5),
        ("1k", 1000.0),
        ("2Gi", 2.0 * 2**30),
        ("3M", 3e6),
        ("1Ti", 2.0**40),
        ("2e3", 2000.0),
        ("5E", 5e18),
    ],
)
def test_amounts(quantity: str, number: float) -> None:
    assert amount(quantity) == number


def test_amounts_that_are_none() -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        amount("4cores")
    assert whole_cores("500m") == 1
    assert whole_cores("2500m") == 2


def test_changes_of_fixed_fields_are_found_and_of_others_not() -> None:
    old = job().spec(runPolicy={"backoffLimit": 1}).build()["spec"]
    new = job().spec(runPolicy={"backoffLimit": 2}, workers=3).build()["spec"]
    assert [one.field for one in TRAINING_JOB.changed(old, new)] == ["spec.workers"]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ({"queue": "a"}, {"queue": "b"}, True),
        (None, {"queue": "b"}, True),
        ({"queue": "a"}, None, True),
        ({"queue": "a"}, {"queue": "a"}, False),
    ],
)
def test_a_scheduling_policy_is_fixed_and_the_rest_of_run_policy_is_not(old: Any, new: Any, changed: bool) -> None:
    policies = [{"schedulingPolicy": one} if one else {} for one in (old, new)]
    before, after = (job().spec(runPolicy={"suspend": bool(n), **one}).build()["spec"] for n, one in enumerate(policies))
    assert [one.field for one in TRAINING_JOB.changed(before, after)] == (["spec.runPolicy.schedulingPolicy"] if changed else [])
    rules = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"]
    assert any("oldSelf.runPolicy.schedulingPolicy" in one["rule"] for one in rules)


def test_every_rule_is_in_the_definition() -> None:
    written: list[str] = []

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            written.extend(one["rule"] for one in node.get("x-kubernetes-validations", []))
            for below in node.values():
                collect(below)
        elif isinstance(node, list):
            for below in node:
                collect(below)

    for kind in KINDS.values():
        written.clear()
        collect(definition(kind))
        assert {rule.cel for rule in kind.rules} <= set(written)


def test_a_rule_about_something_that_is_not_there_holds() -> None:
    check(bare().spec(command=["true"]).build())


def test_the_reference_names_every_field() -> None:
    page = reference()
    for field in ("`spec`", "`recipe.config`", "`env[].name`", "`restarts.last.evidence`", "`conditions[].type`"):
        assert field in page or field == "`spec`"


def test_lists_with_names_are_the_same_in_schema_and_rules() -> None:
    for kind in KINDS.values():
        properties = structural(kind.spec)["properties"]
        keyed = {name for name, node in properties.items() if "x-kubernetes-list-map-keys" in node}
        assert keyed == set(kind.named_lists)


@pytest.mark.parametrize(
    ("recipe", "field", "said"),
    [
        ({"name": "image-classificaton"}, "spec.recipe.name", "not a recipe of torch; there are: image-classification"),
        ({"config": {"epoch": 3}}, "spec.recipe.config.epoch", "did you mean epochs?"),
        ({"config": {"xyzzy": 3}}, "spec.recipe.config.xyzzy", "known are: dropout,"),
        ({"config": {"epochs": 0}}, "spec.recipe.config.epochs", "0 is less than the minimum of 1"),
        ({"config": {"optimizer": "adagrad"}}, "spec.recipe.config.optimizer", "'adamw'"),
    ],
)
def test_recipes_of_our_images_are_checked_before_any_pod_starts(recipe: dict[str, Any], field: str, said: str) -> None:
    spec = {"framework": "torch", "recipe": {"name": "image-classification", **recipe}}
    (problem,) = problems(spec)
    assert problem.field == field
    assert said in problem.message
    assert problems({**spec, "image": "example.com/mine:1"}) == [], "an image of one's own may have other recipes"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        pytest.param({"framework": "torch", "recipe": "image-classification", "data": ["wine"]}, "spec.data[0].builtin: 'wine' is not what image-classification trains on; accepted: digits", id="a table for images"),
        pytest.param({"framework": "sklearn", "recipe": "tabular", "data": ["wine"]}, "", id="a table for tables"),
        pytest.param({"framework": "sklearn", "recipe": "tabular", "data": ["digits"]}, "", id="images as a table"),
        pytest.param({"framework": "sklearn", "recipe": "image-classification"}, "spec.recipe.name: 'image-classification' is not a recipe of sklearn; there are: tabular", id="a recipe of another framework"),
        pytest.param({"framework": "torch", "recipe": "image-classification", "data": ["wine", "digits"]}, "spec.data[0].builtin", id="two entries, train first"),
    ],
)  # fmt: skip
def test_a_recipe_is_not_given_data_or_a_framework_that_it_cannot_use(spec: dict[str, Any], problem: str) -> None:
    names = ["train", "other"]
    data = [{"name": name, "builtin": builtin} for name, builtin in zip(names, spec.get("data", []), strict=False)]
    said = [f"{one.field}: {one.message}" for one in problems({**spec, "recipe": {"name": spec["recipe"]}, "data": data})]
    assert [one[: len(problem)] for one in said] == ([problem] if problem else [])


def test_what_the_trainer_would_take_is_not_refused() -> None:
    config = {"learning_rate": "1e-3", "micro_batch": None, "epochs": 3}
    assert problems({"framework": "torch", "recipe": {"name": "image-classification", "config": config}}) == []
    assert problems({"framework": "torch", "command": ["true"]}) == []

"""Recipes as users run them, on the local twin: how good the models are that they make, and where the time of a start goes.

What a model is worth is read from its artifact's manifest, where a start's time went from what the worker says (`/progress`).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.results import Figure
from bench.twin import NAMESPACE, no_pods, progress_of, twin
from bench.waiting import until
from trainwright.api.names import API_VERSION, INDEX_LABEL, JOB_LABEL
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import PODS, TRAINING_JOBS, VOLUMES, Object
from trainwright.local import environments
from trainwright.local.paths import checkout

WITHIN_SECONDS = 300.0
LONG_ENOUGH = {"epochs": 1000, "step_delay_seconds": 0.05}
"""A training that is still there when its start is told."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe on a builtin data set. `metric` is what the manifest calls that which is judged; `config` is what isn't default.

    `seeds`: a training for each, with another split of the rows; the median is judged. A few dozen test rows by one split are a
    matter of luck.
    """

    framework: str
    name: str
    data: str
    metric: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)

    @property
    def figure(self) -> str:
        return f"quality-{self.framework}-{self.data.replace('_', '-')}"


def _digits(framework: str) -> Recipe:
    return Recipe(framework=framework, name="image-classification", data="digits", metric="accuracy")


def _cancer(framework: str) -> Recipe:
    return Recipe(framework=framework, name="tabular", data="breast_cancer", metric="accuracy")


def _diabetes(framework: str, config: Mapping[str, Any]) -> Recipe:
    """309 rows to learn from, and what there is to learn is all but linear: by the validation part, small models are the best."""
    return Recipe(framework=framework, name="tabular", data="diabetes", metric="r2", config=config, seeds=(0, 1, 2))


RECIPES = (
    *(_digits(framework) for framework in ("torch", "horovod", "jax", "tensorflow")),
    *(_cancer(framework) for framework in ("sklearn", "torch", "tensorflow")),
    _diabetes("sklearn", {"estimator": "ridge"}),
    *(_diabetes(framework, {"hidden": [16]}) for framework in ("torch", "tensorflow")),
)
"""Whose models are judged: one range `quality-FRAMEWORK-DATA` for each in ranges.toml."""

STARTS = (
    *((_digits(framework), workers) for framework in ("torch", "horovod", "jax", "tensorflow") for workers in (1, 2)),
    (_cancer("sklearn"), 1),
)
"""Whose starts are timed, and with how many workers: one range `startup-FRAMEWORK-WORKERS` for each."""

Say = Callable[[str], None]


def started(recipe: Recipe, workers: int) -> str:
    """The figure of a start."""
    return f"startup-{recipe.framework}-{workers}"


async def measure(figures: list[Figure], *, quality: bool, startup: bool, repeats: int, say: Say) -> None:
    """Add what is asked for, on one twin, as it comes."""
    for image in sorted({recipe.framework for recipe in RECIPES}):
        await environments.ensure(checkout() / "trainer_images" / image, say)
    async with twin(say) as cluster:
        if startup:
            say("from a worker's process to its first step, in turns")
            figures += await starts(cluster, repeats=repeats, say=say)
        if quality:
            say("what the recipes' models are worth")
            for recipe in RECIPES:
                figures.append(await worth(cluster, recipe, say))


async def worth(cluster: KubeCluster, recipe: Recipe, say: Say) -> Figure:
    """What the recipe's models are worth, by seed."""
    manifests, began = [], time.perf_counter()
    for seed in recipe.seeds:
        manifests.append(await _trained(cluster, recipe, seed))
    values = [manifest["metrics"][recipe.metric] for manifest in manifests]
    seconds = (time.perf_counter() - began) / len(values)
    shown = ", ".join(f"{value:.4f}" for value in values)
    say(f"  {recipe.framework}, {recipe.name}, {recipe.data}: {recipe.metric} {shown}; a whole job takes {seconds:.0f} s")
    notes = {"metrics": [manifest["metrics"] for manifest in manifests], "seconds": seconds}
    return Figure(name=recipe.figure, samples=values, unit=recipe.metric, notes=notes)


async def _trained(cluster: KubeCluster, recipe: Recipe, seed: int) -> Object:
    """The manifest that one whole training leaves. Raises RuntimeError when it fails."""
    config = {**recipe.config, "seed": seed}
    job = await _submit(cluster, recipe, f"{recipe.figure}-{seed}", workers=1, config=config)

    async def succeeded() -> bool:
        status = (await cluster.get(TRAINING_JOBS, job, NAMESPACE)).get("status", {})
        if status.get("phase") == "Failed":
            raise RuntimeError(f"{job}: {status.get('reason')}")
        return bool(status.get("phase") == "Succeeded")

    await until(succeeded, within=WITHIN_SECONDS, every=0.2, what=f"{job} has succeeded")
    manifest: Object = json.loads((await _workspace(cluster, job) / "artifacts" / "manifest.json").read_text())
    await cluster.delete(TRAINING_JOBS, job, NAMESPACE)
    await no_pods(cluster)
    return manifest


async def starts(cluster: KubeCluster, *, repeats: int, say: Say) -> list[Figure]:
    """Every start so many times, all of them in turns, after one each for the page cache."""
    for recipe in {recipe.framework: recipe for recipe, _ in STARTS}.values():
        await _start(cluster, recipe, 1, "first")
    parts: list[list[dict[str, float]]] = [[] for _ in STARTS]
    for repeat in range(repeats):
        for (recipe, workers), seen in zip(STARTS, parts, strict=True):
            seen.append(await _start(cluster, recipe, workers, str(repeat)))
    figures = []
    for (recipe, workers), seen in zip(STARTS, parts, strict=True):
        medians = {part: round(statistics.median(one.get(part, 0.0) for one in seen), 2) for part in seen[0]}
        said = ", ".join(f"{part} {seconds:.2f}" for part, seconds in medians.items())
        say(f"  {recipe.framework}, {workers} worker{'s' if workers > 1 else ''}: {said}")
        name = started(recipe, workers)
        figures.append(Figure(name=name, samples=[sum(one.values()) for one in seen], notes={"parts": seen, "medians": medians}))
    return figures


async def _start(cluster: KubeCluster, recipe: Recipe, workers: int, which: str) -> dict[str, float]:
    """Seconds of one start by part, as worker 0 says."""
    config = LONG_ENOUGH if recipe.name == "image-classification" else {}
    job = await _submit(
        cluster, recipe, f"start-{recipe.framework}-{workers}-{which}", workers=workers, config={**recipe.config, **config}
    )
    found: dict[str, float] = {}

    async def told() -> bool:
        selector = {JOB_LABEL: job, INDEX_LABEL: "0"}
        pods = [
            pod for pod in (await cluster.list(PODS, NAMESPACE)).items if selector.items() <= pod["metadata"]["labels"].items()
        ]
        for pod in pods:
            found.update((await _said(pod) or {}).get("startup", {}))
        return bool(found)

    await until(told, within=WITHIN_SECONDS, every=0.2, what=f"the first step of {job}")
    await cluster.delete(TRAINING_JOBS, job, NAMESPACE)
    await no_pods(cluster)
    return found


async def _said(pod: Object) -> Object | None:
    """A worker's progress, from its port or, if it has ended, its last words."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses", []):
        if (ended := container["state"].get("terminated")) is not None:
            if ended["exitCode"] != 0:
                raise RuntimeError(f"{pod['metadata']['name']}: {ended.get('message')}")
            words: Object = json.loads(ended["message"])["progress"]
            return words
    return await progress_of(status["podIP"]) if "podIP" in status else None


async def _submit(cluster: KubeCluster, recipe: Recipe, job: str, *, workers: int, config: Mapping[str, Any]) -> str:
    spec = {
        "framework": recipe.framework,
        "recipe": {"name": recipe.name, "config": dict(config)},
        "workers": workers,
        "resources": {"cpu": 1, "memory": "3Gi"},
        "data": [{"name": "train", "builtin": recipe.data}],
        "workspace": {"size": "1Gi"},
        "runPolicy": {"backoffLimit": 0},
    }
    metadata = {"name": job, "namespace": NAMESPACE}
    await cluster.create(
        TRAINING_JOBS, {"apiVersion": API_VERSION, "kind": TRAINING_JOBS.kind, "metadata": metadata, "spec": spec}
    )
    return job


async def _workspace(cluster: KubeCluster, job: str) -> Path:
    """Where the twin keeps the job's claim."""
    volumes = (await cluster.list(VOLUMES)).items
    return next(Path(one["spec"]["hostPath"]["path"]) for one in volumes if one["spec"]["claimRef"]["name"].startswith(job))

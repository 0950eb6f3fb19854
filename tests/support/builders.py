"""Fluent builders: a test names only what it is about.

`job("digits").workers(2).recipe()` is a raw TrainingJob as a user would write it; `stored()` is what the API keeps of it.
"""

from __future__ import annotations

import copy
from typing import Any, Self

from trainwright.api.job import TrainingJob, parse

UID = "11111111-2222-3333-4444-555555555555"


class JobBuilder:
    def __init__(self, name: str) -> None:
        self.raw: dict[str, Any] = {
            "apiVersion": "trainwright.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"framework": "torch"},
        }

    def spec(self, **fields: Any) -> Self:
        """Set fields of the spec by their names on the wire; None removes one."""
        for name, value in fields.items():
            if value is None:
                self.raw["spec"].pop(name, None)
            else:
                self.raw["spec"][name] = value
        return self

    def recipe(self, name: str = "image-classification", **config: Any) -> Self:
        return self.spec(recipe={"name": name, "config": config})

    def command(self, *words: str) -> Self:
        return self.spec(framework="none", recipe=None, command=list(words))

    def workers(self, count: int) -> Self:
        return self.spec(workers=count)

    def gpus(self, count: int) -> Self:
        return self.spec(resources={"gpus": count})

    def run_policy(self, **fields: Any) -> Self:
        return self.spec(runPolicy=fields)

    def namespace(self, name: str) -> Self:
        self.raw["metadata"]["namespace"] = name
        return self

    def build(self) -> dict[str, Any]:
        return copy.deepcopy(self.raw)

    def stored(self, *, status: dict[str, Any] | None = None, uid: str = UID, version: int = 1) -> dict[str, Any]:
        raw = self.build()
        raw["metadata"] |= {
            "uid": uid,
            "generation": 1,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-21T09:00:00Z",
        }
        if status is not None:
            raw["status"] = status
        return raw

    def typed(self, **kwargs: Any) -> TrainingJob:
        return parse(self.stored(**kwargs))


def job(name: str = "digits") -> JobBuilder:
    """A torch job that runs the image-classification recipe on one worker, until told otherwise."""
    return JobBuilder(name).recipe()


def bare(name: str = "digits") -> JobBuilder:
    """A torch job that doesn't say what to run."""
    return JobBuilder(name)

"""The loss curve that a recipe keeps in its run's state: `run.state["losses"]`, a list of [step, loss]."""

from __future__ import annotations

from trainwright_runtime.run import BaseRun


def is_point_due(run: BaseRun, every: int) -> bool:
    """Whether the step that is being taken is to be a point, with one at each `every` steps; asked before `run.step`."""
    return (run.steps + 1) % every == 0


def add_point(run: BaseRun, loss: float, **metrics: float) -> None:
    """Keep the loss over the global batch of the step that is being taken, and report it with other metrics of that step."""
    run.state["losses"].append([run.steps + 1, loss])
    run.note(loss=loss, **metrics)

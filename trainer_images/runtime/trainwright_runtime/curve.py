"""What a recipe keeps of its course in its run's state: `run.state["losses"]`, a list of [step, loss], and `["epochs"]`, a record
each with the scores of the validation part.
"""

from __future__ import annotations

from typing import Any

from trainwright_runtime.run import BaseRun


def is_point_due(run: BaseRun, every: int) -> bool:
    """Whether the step that is being taken is to be a point, with one at each `every` steps; asked before `run.step`."""
    return (run.steps + 1) % every == 0


def add_point(run: BaseRun, loss: float, **metrics: float) -> None:
    """Keep the loss over the global batch of the step that is being taken, and report it with other metrics of that step."""
    run.state["losses"].append([run.steps + 1, loss])
    run.note(loss=loss, **metrics)


def beginning() -> dict[str, Any]:
    """The state of a run that has not begun. `losses`: [step, loss]; `epochs`: a record for each."""
    return {"losses": [], "epochs": []}


def end_epoch(run: BaseRun, validation: dict[str, Any]) -> None:
    """Keep and show the scores of the epoch that ends."""
    scores = {f"val_{name}": value for name, value in validation["metrics"].items()}
    run.log(**scores)
    run.state["epochs"].append({"epoch": run.epoch, **scores})


def log_test(run: BaseRun, test: dict[str, Any]) -> None:
    """Report the scores of the test part: the training's last word."""
    run.log(**{f"test_{name}": value for name, value in test["metrics"].items()})

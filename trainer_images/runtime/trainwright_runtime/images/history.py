"""What a training of images keeps of its course, in every framework: scores of the epochs, best weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainwright_runtime.exits import say
from trainwright_runtime.images.config import ImageConfig
from trainwright_runtime.images.scores import Scores
from trainwright_runtime.run import BaseRun


def beginning() -> dict[str, Any]:
    """The state of a run that has not begun. `losses`: [step, loss]; `epochs`: a record for each."""
    return {"losses": [], "epochs": [], "best_weights": None, "finished": False}


def log_test(run: BaseRun, scores: Scores) -> None:
    """Report the scores of the test part: the training's last word."""
    run.log(test_loss=scores.loss, test_accuracy=scores.accuracy, test_f1=scores.macro_f1)


def end_epoch(run: BaseRun, config: ImageConfig, *, scores: Scores, rate: float, weights: Callable[[], Any]) -> bool:
    """Keep the scores of the epoch that ends, and say whether the training stops early.

    Every rank has the same scores, so every rank comes to the same decision. `weights` copies those of the model.
    """
    run.log(val_loss=scores.loss, val_accuracy=scores.accuracy, val_f1=scores.macro_f1)
    run.state["epochs"].append(
        {
            "epoch": run.epoch,
            "val_loss": scores.loss,
            "val_accuracy": scores.accuracy,
            "val_f1": scores.macro_f1,
            "learning_rate": rate,
        }
    )
    main = run.environment.is_main
    if main:
        say(f"epoch {run.epoch + 1}/{config.epochs}: validation loss {scores.loss:.4f}, accuracy {scores.accuracy:.4f}")
    if config.early_stopping_epochs is None:
        return False
    losses = [record["val_loss"] for record in run.state["epochs"]]
    since_best = len(losses) - 1 - losses.index(min(losses))
    if since_best == 0:
        run.state["best_weights"] = weights()
    if since_best < config.early_stopping_epochs:
        return False
    if main:
        say(f"stopping early: no better validation loss for {since_best} epochs")
    return True

"""Scores and reports as any recipe makes them: from plain lists, with a history, with words that HTML has meanings for."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from pages import Page
from PIL import Image

from trainwright_runtime.reporting import Curve, Importance, Report, files
from trainwright_runtime.reporting.page import label, shown
from trainwright_runtime.reporting.scores import classification, regression

CLASSES = ["ant", "bee", "cow"]
TRUTH = ["ant"] * 4 + ["bee"] * 4 + ["cow"] * 2
PREDICTED = ["ant"] * 4 + ["bee"] * 3 + ["cow"] + ["cow"] * 2
PROBABILITIES = [[0.8, 0.1, 0.1]] * 4 + [[0.1, 0.8, 0.1]] * 3 + [[0.1, 0.3, 0.6]] + [[0.1, 0.1, 0.8]] * 2


def written(report: Report) -> dict[str, bytes]:
    made = {}
    for name, write in files(report).items():
        stream = io.BytesIO()
        write(stream)
        made[name] = stream.getvalue()
    return made


def test_scores_of_classes_are_what_they_are_by_hand() -> None:
    found = classification(TRUTH, PREDICTED, CLASSES, PROBABILITIES)
    assert found["confusion"] == [[4, 0, 0], [0, 3, 1], [0, 0, 2]]
    assert found["metrics"]["accuracy"] == pytest.approx(0.9)
    assert found["metrics"]["macro_f1"] == pytest.approx((1 + 6 / 7 + 4 / 5) / 3)
    assert found["metrics"]["log_loss"] == pytest.approx(-(9 * np.log(0.8) + np.log(0.3)) / 10)
    assert found["baseline"] == pytest.approx(0.4)
    assert found["perClass"][1] == {"class": "bee", "precision": 1.0, "recall": 0.75, "f1": pytest.approx(6 / 7), "support": 4}
    assert found["roc"]["ant"]["area"] == 1.0
    assert found["roc"]["cow"]["area"] == 1.0
    json.dumps(found)


def test_two_classes_have_one_curve_and_a_class_that_is_not_there_none() -> None:
    two = classification(["a", "b"] * 5, ["a"] * 10, ["a", "b"], [[0.6, 0.4]] * 10)
    assert list(two["roc"]) == ["b"]
    assert two["metrics"]["roc_auc"] == 0.5
    absent = classification(["a", "b"] * 5, ["a", "b"] * 5, ["a", "b", "c"], [[0.9, 0.1, 0], [0.1, 0.9, 0]] * 5)
    assert list(absent["roc"]) == ["a", "b"]
    assert absent["perClass"][2]["support"] == 0


def test_scores_of_numbers_are_what_they_are_by_hand() -> None:
    found = regression([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 6.0])
    assert found["metrics"] == pytest.approx({"r2": 1 - 4 / 5, "mae": 0.5, "rmse": 1.0, "mse": 1.0})
    assert found["baseline"] == 1.0
    assert len(regression(range(9000), range(9000))["points"]) == 1000


def test_a_report_with_everything() -> None:
    report = Report(
        title="<digits> & more",
        recipe="torch · image-classification",
        summary="Accuracy 90.0% on 10 test rows of 3 classes.",
        metrics={"test_accuracy": 0.9, "test_loss": float("nan"), **{f"m_{number}": number / 7 for number in range(9)}},
        evaluation=classification(TRUTH, PREDICTED, CLASSES, PROBABILITIES),
        curves=[
            Curve(
                title="Loss",
                x_label="epoch",
                y_label="loss",
                lines={"training": [[0, 2.0], [1, 1.0]], "validation": [[0, 2.1], [1, 1.5]]},
                log=True,
            )
        ],
        importances=[Importance(title="Weight", meaning="share", names=["x" * 60, "y"], values=[0.7, 0.3], spread=[0.1, 0.1])],
        tables={"Search": [{"rank": 1, "depth": None}, {"rank": 2, "depth": 3}]},
        config={"epochs": 3, "model": "<small>"},
        environment={"torch": "2.15.0"},
    )
    made = written(report)
    assert set(made) == {"report.json", "report.html", "curves.png"}
    assert json.loads(made["report.json"])["metrics"]["test_loss"] is None
    html = made["report.html"].decode()
    assert "<digits>" not in html
    page = Page(html)
    assert list(page.pictures) == ["Loss", "Confusion matrix", "ROC", "Precision and recall", "Weight"]
    for picture in (*page.pictures.values(), made["curves.png"]):
        with Image.open(io.BytesIO(picture)) as image:
            assert image.width > 400
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 3, "something is drawn"
    assert "<digits> & more" in page.text
    assert re.search(r"test accuracy", page.text)


def test_a_report_with_next_to_nothing() -> None:
    made = written(Report(title="job", recipe="r", summary="Done.", metrics={"loss": 1.5}))
    assert Page(made["report.html"].decode()).pictures == {}
    assert made["curves.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98765, "0.9877"),
        (1.0, "1.0000"),
        (12.3456, "12.35"),
        (12345.678, "12,346"),
        (0.0, "0"),
        (1e-7, "1e-07"),
        (float("nan"), "–"),
        (None, "–"),
        (1234567, "1,234,567"),
        (True, "True"),
        ("word", "word"),
    ],
)
def test_numbers_are_shown_as_a_person_writes_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_metrics_are_shown_in_words() -> None:
    assert [label(name) for name in ("test_accuracy", "val_r2", "test_roc_auc", "best_score")] == [
        "test accuracy",
        "validation R²",
        "test ROC AUC",
        "best score",
    ]

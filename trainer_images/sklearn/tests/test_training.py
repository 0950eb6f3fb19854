"""The recipe as a worker runs it: what it reaches on real tables, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from artifacts import require_served_facts
from launching import Gang, Worker, builtin
from pages import Page

from trainwright_runtime.config import InvalidConfig, read_config
from trainwright_runtime.environment import DataSource, RankEnvironment
from trainwright_runtime.sealed import read_seal, verify
from trainwright_sklearn.tabular.config import TrainingConfig
from trainwright_sklearn.tabular.train import prepare

RECIPE = ("recipe", "tabular")

LOADER = """
import json, sys
from pathlib import Path
import numpy as np
import pandas as pd

path = Path(sys.argv[1])
manifest = json.loads((path / "manifest.json").read_text())
samples = json.loads((path / "samples.json").read_text())
names = [one["name"] for one in manifest["signature"]["inputs"]]
types = {one["name"]: object if one["dtype"] == "string" else one["dtype"] for one in manifest["signature"]["inputs"]}
rows = pd.DataFrame({name: samples["inputs"][name] for name in names}).astype(types)

if "model.skops" in manifest["files"]:
    import skops.io
    untrusted = skops.io.get_untrusted_types(file=path / "model.skops")
    assert all(one.startswith(("numpy.", "sklearn.")) for one in untrusted), untrusted
    model = skops.io.load(path / "model.skops", trusted=untrusted)
else:
    import joblib
    model = joblib.load(path / "model.joblib")
answers = {"model": {"prediction": model.predict(rows).tolist()}}
if hasattr(model, "predict_proba"):
    answers["model"]["probabilities"] = model.predict_proba(rows).tolist()

if "model.onnx" in manifest["files"]:
    import onnxruntime
    session = onnxruntime.InferenceSession(path / "model.onnx")
    inputs = manifest["onnx"]["inputs"]
    feed = {inputs[name]: rows[[name]].to_numpy(dtype=object if types[name] is object else np.float32) for name in names}
    said = session.run(None, feed)
    answers["onnx"] = {"prediction": said[0].ravel().tolist()}
    if len(said) > 1:
        answers["onnx"]["probabilities"] = said[1].tolist()
assert not [name for name in sys.modules if name.startswith("trainwright")]
print(json.dumps(answers))
"""


def loaded_elsewhere(artifacts: Path) -> dict[str, Any]:
    """What the artifact's models answer to its sample inputs, in a process that knows nothing of ours."""
    result = subprocess.run([sys.executable, "-c", LOADER, artifacts], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def run(gang: Gang, table: str, config: str, **environ: str) -> Worker:
    (worker,) = gang.start(*RECIPE, config=config, TRAINWRIGHT_DATA=builtin(table), **environ)
    assert worker.wait() == 0, worker.output
    return worker


def manifest(gang: Gang) -> dict[str, Any]:
    return dict(read_seal(gang.workspace / "artifacts"))


# --- what it reaches, and what it leaves behind -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def breast_cancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gang, Worker]]:
    """The table of tumours learned by logistic regression, undisturbed."""
    gang = Gang(tmp_path_factory.mktemp("bc"))
    yield gang, run(gang, "breast_cancer", "estimator: logistic")
    gang.end()


def test_tumours_are_told_apart(breast_cancer: tuple[Gang, Worker]) -> None:
    gang, worker = breast_cancer
    report = gang.report()
    assert report["metrics"]["test_accuracy"] >= 0.95
    assert report["metrics"]["val_accuracy"] >= 0.95
    assert report["metrics"]["test_roc_auc"] >= 0.98
    assert sum(map(sum, report["evaluation"]["confusion"])) == report["evaluation"]["rows"] == 86
    shown = worker.message["progress"]
    assert (shown["step"], shown["totalSteps"], shown["mainMetric"]) == (1, 1, "val_accuracy")
    assert shown["metrics"]["test_accuracy"] == report["metrics"]["test_accuracy"]


def test_the_artifact_is_sealed_and_says_what_it_is(breast_cancer: tuple[Gang, Worker]) -> None:
    gang, _ = breast_cancer
    path = gang.workspace / "artifacts"
    facts = manifest(gang)
    verify(path, facts)
    there = {one.name for one in path.iterdir()} - {"manifest.json"}
    assert there == set(facts["files"])
    assert there == {"model.skops", "model.onnx", "samples.json", "report.json", "report.html", "curves.png"}
    assert (facts["framework"], facts["recipe"], facts["job"], facts["uid"]) == ("sklearn", "tabular", "digits", "uid-1")
    assert facts["libraries"]["scikit-learn"] == facts["frameworkVersion"]
    assert facts["signature"]["classes"] == ["benign", "malignant"]
    assert facts["signature"]["inputs"][0] == {"name": "mean radius", "dtype": "float64", "shape": [-1]}
    assert facts["metrics"]["accuracy"] >= 0.95
    assert len(facts["data"]["sha256"]) == 64
    require_served_facts(path, facts, tested=86)
    assert sum(facts["features"]["mean radius"]["counts"]) == 397, "the training part: what drift is measured against"


def test_another_process_gets_the_predictions_that_the_trainer_saw(breast_cancer: tuple[Gang, Worker]) -> None:
    gang, _ = breast_cancer
    expected = json.loads((gang.workspace / "artifacts/samples.json").read_text())["outputs"]
    answers = loaded_elsewhere(gang.workspace / "artifacts")
    assert set(answers) == {"model", "onnx"}
    for answer in answers.values():
        assert answer["prediction"] == expected["prediction"]
        for row, wanted in zip(answer["probabilities"], expected["probabilities"], strict=True):
            assert row == pytest.approx(wanted, abs=1e-4)
    assert len(set(expected["prediction"])) == 2


def test_the_page_stands_alone_and_says_how_it_went(breast_cancer: tuple[Gang, Worker]) -> None:
    gang, _ = breast_cancer
    page = Page((gang.workspace / "artifacts/report.html").read_text())
    assert set(page.pictures) == {"Confusion matrix", "ROC", "Precision and recall", "Permutation importance"}
    assert all(picture.startswith(b"\x89PNG") for picture in page.pictures.values())
    accuracy = manifest(gang)["metrics"]["accuracy"]
    assert f"Accuracy {accuracy:.1%} on 86 test rows of 2 classes" in page.text
    for word in ("test accuracy", "malignant", "estimator: logistic", "scikit-learn", "attempt"):
        assert word in page.text


@pytest.mark.parametrize(
    ("table", "config", "metric", "least", "files"),
    [
        ("diabetes", "estimator: ridge", "r2", 0.4, {"model.onnx"}),
        ("digits", "{estimator: svm, scale: false}", "accuracy", 0.97, {"model.onnx"}),
        ("wine", "{estimator: boosting, format: joblib, permutation_repeats: 0}", "accuracy", 0.9, set()),
    ],
    ids=["a regression", "classes without probabilities", "what ONNX has no words for"],
)
def test_other_tables_are_learned_and_load_elsewhere(
    gang: Gang, table: str, config: str, metric: str, least: float, files: set[str]
) -> None:
    worker = run(gang, table, config)
    facts = manifest(gang)
    assert facts["metrics"][metric] >= least
    assert {name for name in facts["files"] if name.endswith("onnx")} == files
    assert bool(files) != ("no model.onnx: " in worker.output), "what is left out is said, and why"
    expected = json.loads((gang.workspace / "artifacts/samples.json").read_text())["outputs"]["prediction"]
    for answer in loaded_elsewhere(gang.workspace / "artifacts").values():
        same = expected if isinstance(expected[0], str) else pytest.approx(expected, rel=1e-4)
        assert answer["prediction"] == same


def test_words_and_missing_values_go_through_to_onnx(gang: Gang) -> None:
    """A file of one's own: words, gaps, a column left out; a forest, which has importances of its own."""
    folder = gang.folder / "data"
    folder.mkdir()
    lines = ["size,colour,serial,kind"]
    for row in range(120):
        kind = "plum" if row % 3 == 0 else "apple"
        size = "" if row % 10 == 7 else (2 + row % 5 / 10 if kind == "plum" else 7 + row % 4 / 10)
        colour = "" if row % 11 == 5 else ("blue" if kind == "plum" else ("red", "green")[row % 2])
        lines.append(f"{size},{colour},{row},{kind}")
    (folder / "fruit.csv").write_text("\n".join(lines))
    (worker,) = gang.start(
        *RECIPE,
        config="{target: kind, drop: [serial], parameters: {n_estimators: 20}}",
        TRAINWRIGHT_DATA=json.dumps({"train": {"path": str(folder)}}),
    )
    assert worker.wait() == 0, worker.output
    facts = manifest(gang)
    assert [one["dtype"] for one in facts["signature"]["inputs"]] == ["float64", "string"]
    assert facts["metrics"]["accuracy"] == 1.0
    answers = loaded_elsewhere(gang.workspace / "artifacts")
    expected = json.loads((gang.workspace / "artifacts/samples.json").read_text())
    assert None in expected["inputs"]["size"]
    assert {name: answer["prediction"] for name, answer in answers.items()} == dict.fromkeys(
        answers, expected["outputs"]["prediction"]
    )
    report = gang.report()
    assert [one["title"] for one in report["importances"]] == ["Permutation importance", "Feature importance of the trees"]
    assert "colour_blue" in report["importances"][1]["names"]


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "config", "workers", "said"),
    [
        ("iris", "estimator: lasso", 1, "key 'estimator' has the value 'lasso', which is not for classification; accepted: logistic"),  # noqa: E501
        ("iris", "{parameters: {n_estimator: 3}}", 1, "unknown key 'parameters.n_estimator'; did you mean 'n_estimators'? accepted:"),  # noqa: E501
        ("iris", "{parameters: {n_jobs: 3}}", 1, "key 'parameters.n_jobs' is set by Trainwright"),
        ("iris", "{parameters: {n_estimators: none}}", 1, "parameters: The 'n_estimators' parameter of RandomForestClassifier must be"),  # noqa: E501
        ("iris", "{search: {parameters: {max_depth: [2, -1]}}}", 1, "search.parameters: The 'max_depth' parameter"),
        ("iris", "{search: {parameters: {max_depth: [2]}, scoring: acuracy}}", 1, "which is no scorer; near it: accuracy"),
        ("iris", "{search: {parameters: {max_depth: [2]}, scoring: f1}}", 1, "'f1', which can't score classification of 'target'"),  # noqa: E501
        ("iris", "{search: {parameters: {max_depth: [2]}, folds: 50}}", 1, "class 'setosa' has 34 rows in the training part"),
        ("iris", "{search: {kind: random, parameters: {max_depth: [2]}}}", 1, "there are 1 combinations"),
        ("iris", "{search: {parameters: {max_depth: {low: 1, high: 2}}}}", 1, "parameter 'max_depth' is a range; a grid takes"),
        ("iris", "{search: {paramters: {max_depth: [1]}}}", 1, "unknown key 'search.paramters' (value {'max_depth': [1]}); did you mean 'parameters'?"),  # noqa: E501
        ("iris", "{}", 2, "spec.workers is 2, and without 'search' there is nothing to share; accepted: 1"),
        ("mnist", "{}", 1, "has the value builtin: mnist; accepted: breast_cancer, wine, iris, diabetes, digits"),
    ],
    ids=["an estimator of another task", "a misspelt parameter", "a parameter of ours", "a bad value", "a bad value to try",
         "a misspelt scorer", "a scorer of another kind", "too many folds", "more draws than there are", "a range in a grid",
         "a misspelt key below", "workers without a search", "no such table"],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_it_is(tmp_path: Path, table: str, config: str, workers: int, said: str) -> None:
    (tmp_path / "config.yaml").write_text(config)
    environment = RankEnvironment(workers=workers, data=(DataSource(name="train", builtin=table),))
    with pytest.raises(InvalidConfig) as refusal:
        prepare(environment, read_config(tmp_path / "config.yaml", TrainingConfig))
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{estimater: forest}", "unknown key 'estimater' (value 'forest'); did you mean 'estimator'?"),
        ("{target: malignancy}", "key 'target' has the value 'malignancy', which builtin: iris lacks"),
    ],
    ids=["before scikit-learn is loaded", "after the data is read"],
)
def test_a_refusal_ends_the_worker_with_code_64(gang: Gang, config: str, said: str) -> None:
    (worker,) = gang.start(*RECIPE, config=config, TRAINWRIGHT_DATA=builtin("iris"))
    assert worker.wait() == 64, worker.output
    assert worker.message["cause"] == "InvalidConfig"
    assert said in worker.message["message"]

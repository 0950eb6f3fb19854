"""The guides' scripts and the classic mistakes, run by `trainwright run` as a reader of docs/guides.md does, two at a time.

Real: the launcher, each framework, the data. Every bar is some hundredths below what was measured; a guess would get 0.1 to 0.6.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from support.jobs import SAMPLES
from support.twin import ROOT, trainwright

Result = subprocess.CompletedProcess[str]

pytestmark = pytest.mark.timeout(300)

BARS = {
    "keras-convolution": 0.95,
    "keras-validation-split": 0.94,
    "tensorflow-data": 0.94,
    "tensorflow-mirrored-scope": 0.94,
    "torch-net": 0.94,
    "torch-dataset": 0.88,
    "sklearn-forest-search": 0.91,
}
AUTOGRAD = "torch-autograd"
PAGE = (ROOT / "docs" / "classic-mistakes.md").read_text()
MISTAKES = ("softmax", "mismatch")


def job_of_page(name: str, folder: Path) -> Path:
    """The script of this title on the page, as the only code of a job."""
    script = PAGE.split(f'```python title="{name}.py"\n')[1].split("```\n")[0]
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"train.py": script}}
    job = {
        "apiVersion": "trainwright.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "framework": "torch",
            "command": ["python", "train.py"],
            "code": {"configMap": name},
            "resources": {"cpu": 1},
        },
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump_all([code, job]))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guides")


@pytest.fixture(scope="module")
def ran(runs: Path) -> Iterator[Callable[[str], Result]]:
    """What a job printed. All of them are started with the first one that is asked for, two at a time."""
    files = {name: SAMPLES / "guides" / f"{name}.yaml" for name in (*BARS, AUTOGRAD)}
    files |= {name: job_of_page(name, runs) for name in MISTAKES}
    with ThreadPoolExecutor(2) as pool:
        futures: dict[str, Future[Result]] = {
            name: pool.submit(trainwright, "run", file, "--dir", runs, timeout=240) for name, file in files.items()
        }
        yield lambda name: futures[name].result()


@pytest.mark.parametrize("name", BARS)
def test_a_guide_s_script_trains_to_its_bar(ran: Callable[[str], Result], name: str) -> None:
    result = ran(name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{name} Succeeded" in result.stdout
    assert "trainwright: train.py" not in result.stdout, "there is nothing to warn of"
    (accuracy,) = re.findall(r"^test accuracy[a-z ]*: ([\d.]+)", result.stdout, re.MULTILINE)
    assert float(accuracy) >= BARS[name]


def test_the_mirrored_script_has_two_replicas_without_a_gpu(ran: Callable[[str], Result]) -> None:
    assert "with 2 replicas" in ran("tensorflow-mirrored-scope").stdout


def test_autograd_finds_what_is_found_by_hand(ran: Callable[[str], Result]) -> None:
    result = ran(AUTOGRAD)
    assert result.returncode == 0, result.stdout + result.stderr
    pairs = re.findall(r"^x = +(\S+): autograd says +(\S+), 3x² \+ 2 is +(\S+)$", result.stdout, re.MULTILINE)
    assert len(pairs) == 5
    assert all(float(found) == float(by_hand) == 3 * float(x) ** 2 + 2 for x, found, by_hand in pairs)


LOADED = {
    "sklearn": """
import joblib
from sklearn.datasets import load_breast_cancer
model = joblib.load("sklearn-forest-search/workspace/model.joblib")
assert model.score(*load_breast_cancer(return_X_y=True)) > 0.95
""",
    "torch": """
import torch
from torch import nn
layers = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
layers.load_state_dict(torch.load("torch-dataset/workspace/model.pt"))
assert {name: tuple(one.shape) for name, one in torch.load("torch-net/workspace/model.pt").items()} == {
    "hidden.weight": (64, 64), "hidden.bias": (64,), "output.weight": (10, 64), "output.bias": (10,)
}
saved = torch.load("torch-autograd/workspace/gradient.pt")
assert torch.equal(saved["gradient"], 3 * saved["x"] ** 2 + 2)
""",
    "tensorflow": """
import keras
from sklearn.datasets import load_digits
digits = load_digits()
for job, images in [
    ("keras-validation-split", digits.images), ("tensorflow-data", digits.data), ("tensorflow-mirrored-scope", digits.data)
]:
    model = keras.models.load_model(f"{job}/workspace/model.keras")
    assert (model.predict(images / 16, verbose=0).argmax(axis=1) == digits.target).mean() > 0.95, job
assert keras.models.load_model("keras-convolution/workspace/model.h5").input_shape == (None, 28, 28, 1)
""",
}


@pytest.mark.parametrize("framework", LOADED)
def test_the_models_load_in_a_fresh_process(ran: Callable[[str], Result], runs: Path, framework: str) -> None:
    for name in (*BARS, AUTOGRAD):
        assert ran(name).returncode == 0
    python = ROOT / "trainer_images" / framework / ".venv" / "bin" / "python"
    loaded = subprocess.run([python, "-c", LOADED[framework]], cwd=runs, capture_output=True, text=True, timeout=120, check=False)
    assert loaded.returncode == 0, loaded.stderr


def quoted(text: str) -> bool:
    """Whether the page has this, wherever it breaks its lines."""
    return text in re.sub(r"\s+", " ", re.sub(r"^> ", "", PAGE, flags=re.MULTILINE))


def test_softmax_before_cross_entropy_trains_badly_and_is_told(ran: Callable[[str], Result]) -> None:
    result = ran("softmax")
    assert result.returncode == 0, result.stdout + result.stderr
    (warning,) = re.findall(r"^trainwright: .*", result.stdout, re.MULTILINE)
    assert quoted(warning)
    losses = [float(loss) for loss in re.findall(r"epoch \d+: loss (\S+)", result.stdout)]
    assert len(losses) == 10
    assert min(losses) > 1.46, "what the page says it can't go below"


def test_a_layer_that_does_not_match_its_input_ends_the_job_with_advice(ran: Callable[[str], Result]) -> None:
    result = ran("mismatch")
    assert result.returncode == 1
    (reason,) = re.findall(r"^mismatch Failed: (.*)", result.stdout, re.MULTILINE)
    assert quoted(reason)
    assert "attempt 2" not in result.stdout
    evidence = " ".join(result.stdout.partition("last failure: Error, attempt 1")[2].split())
    assert "RuntimeError: addmm: mat1 and mat2 shapes cannot be multiplied (32x5408 and 6272x10) results:" in evidence

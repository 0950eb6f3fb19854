"""Scripts that can't train are refused before any rank starts; all others are let through."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import Gang

from trainwright_runtime.launch import scripts

MWMS = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(data)
"""
LOOP = """
import re
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
name = re.compile("x")
scaler.fit(table)
strategy.run(step)
"""


@pytest.mark.parametrize(
    ("text", "workers", "environ", "said"),
    [
        pytest.param(MWMS, 2, {}, "Set TF_USE_LEGACY_KERAS to 1", id="fit of Keras 3 on several workers"),
        pytest.param(MWMS, 1, {}, None, id="fit on one worker"),
        pytest.param(MWMS, 2, {"TF_USE_LEGACY_KERAS": "1"}, None, id="fit of Keras 2 by spec.env"),
        pytest.param("import os\nos.environ['TF_USE_LEGACY_KERAS'] = '1'" + MWMS, 2, {}, None, id="fit of Keras 2 by the script"),
        pytest.param("import tf_keras" + MWMS, 2, {}, None, id="fit of tf_keras"),
        pytest.param(LOOP, 2, {}, None, id="a loop of one's own"),
        pytest.param("import horovod.keras as hvd", 1, {}, "uses horovod.keras", id="Horovod's Keras"),
        pytest.param("from horovod import tensorflow as hvd", 2, {}, "Use framework: tensorflow", id="Horovod's TensorFlow"),
        pytest.param("import horovod.tensorflow.keras as hvd", 2, {}, "uses horovod.tensorflow", id="below it"),
        pytest.param("import horovod.torch as hvd", 2, {}, None, id="Horovod's torch"),
        pytest.param("this is no Python", 2, {}, None, id="no Python"),
    ],
)
def test_what_is_known_against_a_script(
    tmp_path: Path, text: str, workers: int, environ: dict[str, str], said: str | None
) -> None:
    path = tmp_path / "train.py"
    path.write_text(text)
    fault = scripts.fault_of(path, workers=workers, environ=environ)
    assert fault is None if said is None else said in str(fault)


def test_a_module_is_found_as_import_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    for name in ("package/__init__.py", "package/inner.py", "plain.py"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    assert scripts.of_module("plain") == tmp_path / "plain.py"
    assert scripts.of_module("package.inner") == tmp_path / "package/inner.py"
    assert scripts.of_module("absent") is None
    assert scripts.of_module("sys") is None
    assert scripts.of_command(["torchrun", "--x", "train.py", "a"]) == Path("train.py")
    assert scripts.of_command(["./train"]) is None


@pytest.mark.parametrize("verb", [("module", "train"), ("command", "--", "python", "train.py")])
def test_a_refused_script_is_told_before_it_runs(gang: Gang, verb: tuple[str, ...]) -> None:
    (gang.folder / "train.py").write_text("print('it ran', flush=True)\nimport horovod.keras")
    (worker,) = gang.start(*verb)
    assert worker.wait() == 64
    assert worker.message["cause"] == "InvalidConfig"
    assert "train.py uses horovod.keras" in worker.message["message"]
    assert "it ran" not in worker.output

"""A TensorFlow model as files: for TensorFlow Serving, for Keras 3 and what came before it, and for devices."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from trainwright_runtime.exits import say
from trainwright_runtime.sealed import Writer

TOLERANCE = 1e-3
"""Share of the greatest answer by which a converted model's may differ: single precision, summed in another order."""


def model_files(model: keras.Model, folder: Path, *, output: str, samples: Mapping[str, Any]) -> Mapping[str, Writer]:
    """The files of a model in float32 that no strategy holds. They are made in `folder`, and must stay there until written.

    `output`: what its answer is called; `samples`: some rows of each input by name, numpy, to check by what can fail to convert.
    """
    names = [one.name for one in model.inputs]

    def called(*inputs: Any) -> Any:
        return {output: model(keras.tree.pack_sequence_as(model.input, list(inputs)), training=False)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec(one.shape, one.dtype, name=one.name) for one in model.inputs]
    archive.add_endpoint("serve", called, input_signature=signature)
    archive.write_out(str(folder / "saved_model"), verbose=False)
    model.save(folder / "model.keras")

    given = {name: tf.constant(samples[name]) for name in names}
    expected = called(*given.values())[output].numpy()
    for name, convert in {"model.h5": _hdf5, "model.tflite": _lite}.items():
        # All else of the training is good, and neither of these is what most are after.
        try:
            answer = convert(model, folder, given)
        except Exception as error:
            why = str(error).splitlines()[0].split(". ")[0]
        else:
            off = np.abs(answer - expected).max()
            why = "" if off <= TOLERANCE * max(1.0, np.abs(expected).max()) else f"it answers otherwise, by up to {off:.3g}"
        if why:
            (folder / name).unlink(missing_ok=True)
            say(f"{name} is left out: this model can't be converted ({why})")
    return {str(path.relative_to(folder)): _copy_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _hdf5(model: keras.Model, folder: Path, given: Mapping[str, tf.Tensor]) -> Any:
    """Writes model.h5; returns what it answers when it is loaded again."""
    model.save(folder / "model.h5")
    # What it can't hold shows only here: operations that are no layers.
    loaded = keras.models.load_model(folder / "model.h5", compile=False)
    return loaded(keras.tree.pack_sequence_as(model.input, list(given.values()))).numpy()


def _lite(_model: keras.Model, folder: Path, given: Mapping[str, tf.Tensor]) -> Any:
    """Writes model.tflite, of the model saved before; returns what it answers."""
    content = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model")).convert()
    (folder / "model.tflite").write_bytes(content)
    answer_to = Interpreter(model_content=content).get_signature_runner()
    (answer,) = answer_to(**{name: value.numpy() for name, value in given.items()}).values()
    return answer


def _copy_of(path: Path) -> Writer:
    def copy(stream: IO[bytes]) -> Any:
        with path.open("rb") as source:
            shutil.copyfileobj(source, stream)

    return copy

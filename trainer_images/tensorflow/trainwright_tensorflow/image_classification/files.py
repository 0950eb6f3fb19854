"""A TensorFlow image classifier as files: for TensorFlow Serving, for Keras 3 and what came before it, and for devices."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import keras
import tensorflow as tf

from trainwright_runtime.exits import say
from trainwright_runtime.sealed import Writer


def model_files(model: keras.Model, folder: Path) -> Mapping[str, Writer]:
    """The files of a model in float32 that no strategy holds. They are made in `folder`, and must stay there until written."""
    signature = [tf.TensorSpec(model.inputs[0].shape, tf.float32, name="images")]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda images: {"logits": model(images, training=False)}, input_signature=signature)
    archive.write_out(str(folder / "saved_model"), verbose=False)
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    try:
        small = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model")).convert()
    except Exception as error:
        # All else of the training is good, and a model for devices is not what most are after.
        say(f"model.tflite is left out: this model can't be converted ({str(error).splitlines()[0]})")
    else:
        (folder / "model.tflite").write_bytes(small)
    return {str(path.relative_to(folder)): _copy_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _copy_of(path: Path) -> Writer:
    def copy(stream: IO[bytes]) -> Any:
        with path.open("rb") as source:
            shutil.copyfileobj(source, stream)

    return copy

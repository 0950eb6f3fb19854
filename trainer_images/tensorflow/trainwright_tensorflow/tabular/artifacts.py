"""The trained perceptron as files that take the table's own values, words as words; all else is the runtime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from trainwright_runtime.artifact import Tensor
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.tabular import artifact
from trainwright_runtime.tabular.data import TabularData
from trainwright_runtime.tabular.network import Columns
from trainwright_runtime.tensorflow import Run
from trainwright_tensorflow.files import model_files
from trainwright_tensorflow.tabular.config import TrainingConfig
from trainwright_tensorflow.tabular.model import with_words, words_of


def save(
    environment: RankEnvironment,
    config: TrainingConfig,
    data: TabularData,
    columns: Columns,
    network: keras.Model,
    run: Run,
    test: dict[str, Any],
    folder: Path,
) -> Path:
    """Write the artifact; returns its directory. `network`: in float32, held by no strategy; `folder`: for files on the way."""
    model = with_words(network, columns)
    rows = words_of(artifact.sample_rows(data), data, columns)
    answers = model({name: tf.constant(array) for name, array in rows.items()}, training=False).numpy()
    output = artifact.output_of(data)
    return artifact.save(
        environment,
        config,
        data,
        columns,
        run,
        test,
        framework="tensorflow",
        inputs=[
            (Tensor(name=one.name, dtype=str(one.dtype), shape=(-1, one.shape[1])), rows[one.name].tolist())
            for one in model.inputs
        ],
        outputs=answers.tolist(),
        model=model_files(model, folder, output=output.name, samples=rows),
    )

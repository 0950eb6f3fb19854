"""The trained perceptron as files: its weights, and a program that needs no code of ours; all else is the runtime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trainwright_runtime.artifact import Tensor
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.tabular import artifact
from trainwright_runtime.tabular.data import TabularData
from trainwright_runtime.torch import Run
from trainwright_runtime.torch.artifacts import model_files
from trainwright_torch.tabular.config import TrainingConfig
from trainwright_torch.tabular.model import Perceptron, tensors_of


def save(
    environment: RankEnvironment, config: TrainingConfig, data: TabularData, model: Perceptron, run: Run, test: dict[str, Any]
) -> Path:
    """Write the artifact; returns its directory."""
    on_cpu = model.to("cpu").eval()
    numbers, words = tensors_of(artifact.sample_rows(data), data, model.columns)
    with torch.no_grad():
        answers = on_cpu(numbers, words)
    return artifact.save(
        environment,
        config,
        data,
        model.columns,
        run,
        test,
        framework="torch",
        inputs=[
            (Tensor(name="numbers", dtype="float32", shape=(-1, len(data.numeric))), numbers.tolist()),
            (Tensor(name="words", dtype="int64", shape=(-1, len(data.categorical))), words.tolist()),
        ],
        outputs=answers.tolist(),
        # The first two rows are an example for the exporter.
        model=model_files(on_cpu, numbers[:2].nan_to_num(), words[:2]),
    )

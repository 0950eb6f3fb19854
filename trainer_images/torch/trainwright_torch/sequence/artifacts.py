"""The trained network as files: its weights, and a program that needs no code of ours; all else is the runtime's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.series import artifact
from trainwright_runtime.series.data import Floats, SeriesData
from trainwright_runtime.torch import Run
from trainwright_runtime.torch.artifacts import model_files
from trainwright_torch.sequence.config import TrainingConfig
from trainwright_torch.sequence.model import Forecaster


def save(
    environment: RankEnvironment,
    config: TrainingConfig,
    data: SeriesData,
    model: Forecaster,
    run: Run,
    test: dict[str, Any],
    said: Floats,
) -> Path:
    """Write the artifact; returns its directory. `said`: all forecasts of the test part."""
    on_cpu = model.to("cpu").eval()
    windows = torch.from_numpy(data.windows(data.starts["test"][: artifact.SAMPLES]))
    with torch.no_grad():
        outputs = on_cpu(windows).numpy()
    with warnings.catch_warnings():
        # An LSTM keeps its weights in a list, too.
        warnings.filterwarnings("ignore", message="The tensor attributes .* were assigned during export")
        files = model_files(on_cpu, windows[:2])
    return artifact.save(environment, config, data, run, test, framework="torch", said=said, outputs=outputs, model=files)

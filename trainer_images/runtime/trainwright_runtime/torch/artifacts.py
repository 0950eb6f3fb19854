"""A torch model as files: its weights, and an exported program that needs no code of ours."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.images import artifact
from trainwright_runtime.images.config import ImageConfig
from trainwright_runtime.images.data import Floats, ImageData
from trainwright_runtime.images.scores import Scores
from trainwright_runtime.run import BaseRun
from trainwright_runtime.sealed import Writer


def save_classifier(
    environment: RankEnvironment,
    config: ImageConfig,
    images: ImageData,
    run: BaseRun,
    scores: Scores,
    model: torch.nn.Module,
    *,
    framework: str,
) -> Path:
    """Write the artifact of an image classifier; returns its directory. The model is on the CPU then."""
    height, width, channels = images.shape
    on_cpu = model.to("cpu").eval()

    def answer(pixels: Floats) -> Any:
        with torch.no_grad():
            return on_cpu(torch.from_numpy(np.ascontiguousarray(pixels))).float().numpy()

    files = model_files(on_cpu, torch.zeros(2, channels, height, width))
    return artifact.save(
        environment, config, images, run, scores, framework=framework, model=files, answer=answer, channels_first=True
    )


def model_files(model: torch.nn.Module, *example: torch.Tensor) -> Mapping[str, Writer]:
    """The files of a model that is on the CPU, and takes as many samples as it is given.

    `example`: its inputs, for two samples: a batch of one is taken for a constant by the exporter.
    """
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, example, dynamic_shapes=({0: batch},) * len(example))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return {
        "model.pt": lambda stream: torch.save(model.state_dict(), stream),
        "model.pt2": lambda stream: stream.write(buffer.getbuffer()),
    }

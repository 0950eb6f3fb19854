"""A torch image classifier as files: its weights, and an exported program that needs no code of ours."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch

from trainwright_runtime.sealed import Writer


def model_files(model: torch.nn.Module, shape: tuple[int, int, int]) -> Mapping[str, Writer]:
    """The files of a model that takes images of this shape (channels, height, width); moves it to the CPU."""
    on_cpu = model.to("cpu").eval()
    exported = _exported(on_cpu, shape)
    return {
        "model.pt": lambda stream: torch.save(on_cpu.state_dict(), stream),
        "model.pt2": lambda stream: stream.write(exported),
    }


def _exported(model: torch.nn.Module, shape: tuple[int, int, int]) -> bytes:
    # Two examples: a batch of one is taken for a constant by the exporter.
    example = torch.zeros(2, *shape)
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()

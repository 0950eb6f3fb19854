"""`python -m bench.serving.tiny FOLDER`, by TorchServe's Python: the artifact of a linear model of eight numbers.

Its manifest has histograms of all, so that a gateway in front of it has drift to measure.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import torch

from trainwright_runtime.sealed import write_sealed

NAMES = [f"feature-{number}" for number in range(8)]
CLASSES = ["a", "b", "c"]
ROW = [0.1 * number for number in range(8)]


def main() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(len(NAMES), len(CLASSES))).eval()
    program = io.BytesIO()
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(network, (torch.zeros(2, len(NAMES)),), dynamic_shapes=({0: batch},)), program)
    with torch.no_grad():
        samples = {"inputs": {"numbers": [ROW]}, "outputs": {"logits": network(torch.tensor([ROW])).tolist()}}
    histogram = {"kind": "numeric", "edges": [number / 20 for number in range(21)], "counts": [100] * 20, "missing": 0}
    facts = {
        "framework": "torch",
        "recipe": "tabular",
        "time": 1.0,
        "signature": {
            "inputs": [{"name": "numbers", "dtype": "float32", "shape": [-1, len(NAMES)]}],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, len(CLASSES)]}],
            "classes": CLASSES,
        },
        "columns": {"numbers": NAMES, "words": {}},
        "features": dict.fromkeys(NAMES, histogram),
        "predictions": {"kind": "categorical", "counts": dict.fromkeys(CLASSES, 100), "others": 0, "missing": 0},
    }
    files = {"model.pt2": program.getvalue(), "samples.json": json.dumps(samples).encode()}
    write_sealed(Path(sys.argv[1]), {name: _writer(content) for name, content in files.items()}, facts)


def _writer(content: bytes) -> Callable[[IO[bytes]], int]:
    return lambda stream: stream.write(content)


if __name__ == "__main__":
    main()

"""`python -m bench.serving.large FOLDER BYTES`, by the publisher's Python: an artifact of random bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from trainwright_runtime.sealed import write_sealed

CHUNK = 1 << 20


def main() -> None:
    folder, size = Path(sys.argv[1]), int(sys.argv[2])

    def write(stream: IO[bytes]) -> None:
        for _ in range(size // CHUNK):
            stream.write(os.urandom(CHUNK))

    signature = {
        "inputs": [{"name": "age", "dtype": "float64", "shape": [-1]}],
        "outputs": [{"name": "prediction", "dtype": "float64", "shape": [-1]}],
    }
    write_sealed(
        folder, {"model.joblib": write}, {"framework": "sklearn", "recipe": "tabular", "time": 1.0, "signature": signature}
    )


if __name__ == "__main__":
    main()

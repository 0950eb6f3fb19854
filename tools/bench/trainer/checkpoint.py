"""A checkpoint of 200 MB under the runtime and by `torch.save`, in turns; seconds that training stands still, as JSON on stdout.

`checkpoint DIRECTORY REPEATS`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

MEGABYTES = 200


def main() -> None:
    directory, repeats = Path(sys.argv[1]), int(sys.argv[2])
    os.environ["TRAINWRIGHT_CHECKPOINT_DIR"] = str(directory / "checkpoints")
    os.environ["TRAINWRIGHT_CHECKPOINT_KEEP"] = "1"
    from trainwright_runtime.torch import Run

    # Adam keeps two values beside each weight: a third of the size is the model's.
    width = int((MEGABYTES * 1e6 / 3 / 4 / 16) ** 0.5)
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(16)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, width)).sum().backward()
    optimizer.step()
    run = Run(model=model, optimizer=optimizer)
    run.resume()
    seconds: dict[str, list[float]] = {"blocked": [], "plain": [], "flushed": [], "written": [], "blockedCpu": [], "plainCpu": []}
    for repeat in range(repeats + 1):
        run.step(samples=0)
        began, cpu = time.perf_counter(), time.thread_time()
        run.save()
        blocked, blocked_cpu = time.perf_counter() - began, time.thread_time() - cpu
        while not (directory / "checkpoints" / f"step-{run.steps}" / "manifest.json").exists():
            time.sleep(0.005)
        written = time.perf_counter() - began
        began, cpu = time.perf_counter(), time.thread_time()
        with (directory / "plain.pt").open("wb") as stream:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, stream)
            stream.flush()
            plain, plain_cpu = time.perf_counter() - began, time.thread_time() - cpu
            os.fsync(stream.fileno())
        flushed = time.perf_counter() - began
        size = (directory / "plain.pt").stat().st_size
        if repeat:
            for name, value in zip(seconds, (blocked, plain, flushed, written, blocked_cpu, plain_cpu), strict=True):
                seconds[name].append(value)
    run.close()
    print(json.dumps({**seconds, "bytes": size}))  # noqa: T201 - it is the answer


if __name__ == "__main__":
    main()

"""Steps of one training loop bare and under the runtime, step by step in turns; seconds of each as JSON on stdout.

Run by the trainer image's Python: `step.py RANKS STEPS PORT`. With two ranks both loops are DDP over gloo. The turns are as
short as they can be, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainwright_runtime.torch import Run

BATCH = 64
IMAGE = 16
EPOCH = 50
WARM_UP = 20


class Loop:
    """One model, trained bare or under the runtime: two would differ by where their memory happens to lie."""

    def __init__(self, *, distributed: bool) -> None:
        torch.manual_seed(0)
        model: nn.Module = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
        )
        model(torch.zeros(1, 1, IMAGE, IMAGE))
        self.model = nn.parallel.DistributedDataParallel(model) if distributed else model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        images, labels = torch.randn(BATCH * EPOCH, 1, IMAGE, IMAGE), torch.randint(0, 10, (BATCH * EPOCH,))
        self.loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH)
        self.run = Run(model=self.model, optimizer=self.optimizer, total_steps=10**6)

    def bare(self) -> Iterator[None]:
        """A step for each `next`, for ever."""
        while True:
            for images, labels in self.loader:
                self._train(images, labels)
                yield

    def managed(self) -> Iterator[None]:
        """The same, under the runtime."""
        for _ in self.run.epochs(10**6):
            for images, labels in self.run.batches(self.loader):
                self.run.step(loss=self._train(images, labels))
                yield

    def _train(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss


def measure(rank: int, ranks: int, steps: int) -> dict[str, list[float]]:
    """One rank's measurement."""
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    loop = Loop(distributed=ranks > 1)
    seconds: dict[str, list[float]] = {"bare": [], "managed": [], "bareCpu": [], "managedCpu": []}
    turns = [("bare", loop.bare()), ("managed", loop.managed())]
    for step in range(-WARM_UP, steps):
        for name, work in turns if step % 2 else reversed(turns):
            wall, cpu = time.perf_counter(), time.process_time()
            next(work)
            if step >= 0:
                seconds[name].append(time.perf_counter() - wall)
                seconds[f"{name}Cpu"].append(time.process_time() - cpu)
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()
    return seconds


def main() -> None:
    ranks, steps, port = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TRAINWRIGHT_STATUS_DIR"] = directory
        if ranks == 1:
            print(json.dumps(measure(0, 1, steps)))  # noqa: T201 - it is the answer
            return
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        other = os.fork()
        rank = int(other == 0)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        measured = measure(rank, ranks, steps)
        if other == 0:
            os._exit(0)
        os.waitpid(other, 0)
        print(json.dumps(measured))  # noqa: T201


if __name__ == "__main__":
    main()

"""Steps of a torch training, bare and under the runtime: `torch_step RANKS STEPS PORT`. Two ranks are DDP over gloo."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.trainer.turns import Seconds, answer, in_turns
from trainwright_runtime.gang import Gang
from trainwright_runtime.torch import Run

BATCH = 64
IMAGE = 16
EPOCH = 50


class Loop:
    """One model, trained bare or under the runtime: two would differ by where their memory happens to lie.

    Another library that trains by torch overrides `_optimizer` and `_gang`.
    """

    def __init__(self, *, distributed: bool = False) -> None:
        torch.manual_seed(0)
        model: nn.Module = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
        )
        model(torch.zeros(1, 1, IMAGE, IMAGE))
        self.model = nn.parallel.DistributedDataParallel(model) if distributed else model
        self.optimizer = self._optimizer()
        images, labels = torch.randn(BATCH * EPOCH, 1, IMAGE, IMAGE), torch.randint(0, 10, (BATCH * EPOCH,))
        self.loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH)
        self.run = Run(model=self.model, optimizer=self.optimizer, total_steps=10**6, gang=self._gang())

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

    def _optimizer(self) -> Any:
        return torch.optim.SGD(self.model.parameters(), lr=0.01)

    def _gang(self) -> Gang | None:
        return None

    def _train(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss


def measure(ranks: int, steps: int, port: int) -> Seconds:
    """Rank 0's measurement."""
    other = -1
    if ranks > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        other = os.fork()
        rank = int(other == 0)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    torch.set_num_threads(1)
    loop = Loop(distributed=ranks > 1)
    seconds = in_turns(loop.bare(), loop.managed(), turns=steps)
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()
        if other == 0:
            os._exit(0)
        os.waitpid(other, 0)
    return seconds


if __name__ == "__main__":
    ranks, steps, port = map(int, sys.argv[1:])
    answer(lambda: measure(ranks, steps, port))

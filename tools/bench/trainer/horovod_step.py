"""Steps of torch's loop with Horovod's optimizer, bare and under the runtime: `horovod_step STEPS`. One rank."""

from __future__ import annotations

import sys
from typing import Any

import horovod.torch as hvd
import torch

from bench.trainer import torch_step
from bench.trainer.turns import Seconds, answer, in_turns
from trainwright_runtime.gang import Gang
from trainwright_runtime.horovod.gang import HorovodGang


class Loop(torch_step.Loop):
    """Gradients go through Horovod, also where there is nobody to exchange them with."""

    def _optimizer(self) -> Any:
        return hvd.DistributedOptimizer(super()._optimizer(), named_parameters=self.model.named_parameters(), op=hvd.Sum)

    def _gang(self) -> Gang:
        return HorovodGang()


def measure(steps: int) -> Seconds:
    torch.set_num_threads(1)
    hvd.init()
    loop = Loop()
    seconds = in_turns(loop.bare(), loop.managed(), turns=steps)
    hvd.shutdown()
    return seconds


if __name__ == "__main__":
    answer(lambda: measure(int(sys.argv[1])))

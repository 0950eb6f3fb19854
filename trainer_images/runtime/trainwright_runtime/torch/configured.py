"""What a recipe's configuration asks of torch: device, optimizer, schedule."""

from __future__ import annotations

from typing import Any, Literal

import torch

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.images.config import ImageConfig


def choose_device(asked: Literal["auto", "cpu", "cuda"], environment: RankEnvironment) -> torch.device:
    """The rank's own GPU if it has one, else the CPU."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and gpus < environment.local_world_size):
        return torch.device("cpu")
    if environment.local_rank >= gpus:
        raise InvalidConfig(
            f"key 'device' has the value 'cuda', but this worker has {gpus} GPUs for {environment.local_world_size} ranks"
        )
    torch.cuda.set_device(environment.local_rank)
    return torch.device("cuda", environment.local_rank)


def build_optimizer(config: ImageConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The configured optimizer over all weights."""
    rate, decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay, momentum=config.momentum)


def build_scheduler(config: ImageConfig, optimizer: torch.optim.Optimizer) -> Any:
    """The configured schedule, to be stepped once an epoch; None for a constant rate."""
    if config.schedule == "none" and not config.warmup_epochs:
        return None
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: config.learning_rate_at(epoch) / config.learning_rate)

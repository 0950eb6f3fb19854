"""Trains a perceptron on a table on any number of ranks, from top to bottom: set up, data, model, loop, test, save.

Gradients are averaged over the global batch, however it is shared out, so the loss curve doesn't depend on the number of
workers. Everything that must survive a stop is in `run` (see `trainwright_runtime.torch`).
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from trainwright_runtime import curve
from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, leave, say
from trainwright_runtime.order import plan_epoch
from trainwright_runtime.tabular import network
from trainwright_runtime.tabular.data import Part, TabularData, load
from trainwright_runtime.torch import Run
from trainwright_runtime.torch.configured import choose_device
from trainwright_runtime.torch.gang import TorchGang, meet
from trainwright_torch.tabular import artifacts
from trainwright_torch.tabular.config import TrainingConfig
from trainwright_torch.tabular.model import Perceptron, tensors_of


def train(environment: RankEnvironment, config: TrainingConfig) -> None:
    """The whole training of one rank."""
    # --- set up -------------------------------------------------------------------------------------------------------
    rank, world_size = environment.rank, environment.world_size
    try:
        device = choose_device(config.device, environment)
        data = load(environment.data, config)
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))
    torch.manual_seed(config.seed)
    model = Perceptron(data, config).to(device)
    meet(environment, device)
    gang = TorchGang()
    if environment.is_main:
        say(f"{world_size} rank{'s' if world_size > 1 else ''} on {device.type}: {data}")

    # --- model --------------------------------------------------------------------------------------------------------
    # From here on the ranks differ: dropout must not hit the same units everywhere.
    torch.manual_seed(config.seed + rank)
    trained = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None) if world_size > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs)

    # --- loop ---------------------------------------------------------------------------------------------------------
    numbers, words = (tensor.to(device) for tensor in tensors_of(data.train, data, model.columns))
    targets = torch.from_numpy(network.targets_of(data.train, data)).to(device)
    run = Run(
        model=trained,
        optimizer=optimizer,
        scheduler=scheduler,
        state=curve.beginning(),
        total_steps=config.epochs * -(-len(data.train) // config.global_batch),
        main_metric=f"val_{data.main_metric}",
        gang=gang,
    )
    run.resume()
    for epoch in run.epochs(config.epochs):
        trained.train()
        steps = plan_epoch(
            len(data.train),
            epoch=epoch,
            seed=config.seed,
            start=run.position,
            global_batch=config.global_batch,
            rank=rank,
            world_size=world_size,
        )
        for step in steps:
            (own,) = step.micro_batches
            loss = loss_of(trained(numbers[own], words[own]), targets[own], model) / step.samples
            if step.is_padding:
                loss = loss * 0.0
            # DDP averages over ranks; the sum over them is what a step over the global batch asks for.
            (loss * world_size).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            time.sleep(config.step_delay_seconds)
            if curve.is_point_due(run, config.log_every_steps):
                curve.add_point(run, float(gang.total(float(loss.detach()))))
            run.step(samples=step.samples)
        # A table's validation part is small: every rank looks at all of it, and comes to the same scores.
        curve.end_epoch(run, measured(model, data, data.validation, device))
        scheduler.step()
    run.close()

    # --- test and save ------------------------------------------------------------------------------------------------
    test = measured(model, data, data.test, device)
    curve.log_test(run, test)
    if environment.is_main:
        artifacts.save(environment, config, data, model, run, test)
    gang.disband()


def loss_of(output: torch.Tensor, targets: torch.Tensor, model: Perceptron) -> torch.Tensor:
    """Cross-entropy, or squared error in units of the target's variance; the sum over rows."""
    if model.is_regression:
        return F.mse_loss(output / model.target_scale, targets / model.target_scale, reduction="sum")
    return F.cross_entropy(output, targets, reduction="sum")


@torch.no_grad()
def measured(model: Perceptron, data: TabularData, part: Part, device: torch.device) -> dict[str, Any]:
    """What `reporting.scores` makes of the model's answers for this part."""
    model.eval()
    output = model(*(tensor.to(device) for tensor in tensors_of(part, data, model.columns))).float().cpu()
    return network.measured(output.numpy(), part, data)

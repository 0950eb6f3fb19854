"""Trains a network to forecast a series on any number of ranks, from top to bottom: set up, data, model, loop, test, save.

Gradients are averaged over the global batch, however it is shared out, so the loss curve doesn't depend on the number of
workers. Everything that must survive a stop is in `run` (see `trainwright_runtime.torch`).
"""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from trainwright_runtime import curve
from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, leave, say
from trainwright_runtime.order import plan_epoch
from trainwright_runtime.progress import report
from trainwright_runtime.series.data import Floats, Places, load
from trainwright_runtime.series.scores import MAIN_METRIC, measured
from trainwright_runtime.torch import Run
from trainwright_runtime.torch.configured import choose_device
from trainwright_runtime.torch.gang import TorchGang, meet
from trainwright_torch.sequence import artifacts
from trainwright_torch.sequence.config import TrainingConfig
from trainwright_torch.sequence.model import Forecaster

WINDOWS_AT_A_TIME = 1024
"""When a part is measured: there is memory for the series, and there needn't be for all windows over it."""


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
    model = Forecaster(data, config).to(device)
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

    def forecast(starts: Places) -> Floats:
        """All forecasts of a part. Every rank makes all of them, and comes to the same scores."""
        model.eval()
        said = []
        with torch.no_grad():
            for at in range(0, len(starts), WINDOWS_AT_A_TIME):
                windows = torch.from_numpy(data.windows(starts[at : at + WINDOWS_AT_A_TIME]))
                said.append(model(windows.to(device)).float().cpu().numpy())
                report()
        return np.concatenate(said)

    # --- loop ---------------------------------------------------------------------------------------------------------
    values = torch.from_numpy(data.values).to(device)
    starts = torch.from_numpy(data.starts["train"]).to(device)
    before = torch.arange(data.window, device=device)
    after = data.window + torch.arange(data.horizon, device=device)
    run = Run(
        model=trained,
        optimizer=optimizer,
        scheduler=scheduler,
        state=curve.beginning(),
        total_steps=config.epochs * -(-len(starts) // config.global_batch),
        main_metric=f"val_{MAIN_METRIC}",
        gang=gang,
    )
    run.resume()
    for epoch in run.epochs(config.epochs):
        trained.train()
        for step in plan_epoch(
            len(starts),
            epoch=epoch,
            seed=config.seed,
            start=run.position,
            global_batch=config.global_batch,
            rank=rank,
            world_size=world_size,
        ):
            (own,) = step.micro_batches
            first = starts[own][:, None]
            # Squared error in units of how far the target usually moves; the mean over the global batch and the horizon.
            off = (trained(values[first + before]) - values[first + after, 0]) / model.change
            loss = F.mse_loss(off, torch.zeros_like(off), reduction="sum") / (step.samples * data.horizon)
            if step.is_padding:
                loss = loss * 0.0
            # DDP averages over ranks; the sum over them is what a step over the global batch asks for.
            (loss * world_size).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            time.sleep(config.step_delay_seconds)
            if curve.is_point_due(run, config.log_every_steps):
                curve.add_point(run, float(gang.total(float(loss.detach()))))
            run.step(samples=step.samples)
        curve.end_epoch(run, measured(forecast(data.starts["validation"]), data.starts["validation"], data))
        scheduler.step()
    run.close()

    # --- test and save ------------------------------------------------------------------------------------------------
    said = forecast(data.starts["test"])
    test = measured(said, data.starts["test"], data)
    curve.log_test(run, test)
    if environment.is_main:
        artifacts.save(environment, config, data, model, run, test, said)
    gang.disband()

"""Trains an image classifier on any number of ranks, from top to bottom: set up, data, model, loop, test, save.

Gradients are averaged over the global batch, however it is shared out, so the loss curve doesn't depend on the number of
workers. Everything that must survive a stop is in `run` (see `trainwright_runtime.torch`): weights, optimizer, place in the
data, random numbers, and the history in `run.state`.
"""

from __future__ import annotations

import contextlib
import time

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from trainwright_runtime import curve
from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, leave, say
from trainwright_runtime.images import history
from trainwright_runtime.images.data import Images, load
from trainwright_runtime.images.scores import Scores
from trainwright_runtime.order import plan_epoch
from trainwright_runtime.torch import Run
from trainwright_runtime.torch.artifacts import save_classifier
from trainwright_runtime.torch.configured import build_optimizer, build_scheduler, choose_device
from trainwright_runtime.torch.gang import TorchGang, meet
from trainwright_runtime.torch.images import batches, build, copied, evaluate, gradient_norm
from trainwright_torch.image_classification.config import TrainingConfig

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def train(environment: RankEnvironment, config: TrainingConfig) -> None:
    """The whole training of one rank."""
    # --- set up -------------------------------------------------------------------------------------------------------
    rank, world_size = environment.rank, environment.world_size
    try:
        device = choose_device(config.device, environment)
        images = load(environment.data, config)
        torch.manual_seed(config.seed)
        model = build(config.model, channels=images.shape[2], classes=len(images.classes), dropout=config.dropout).to(device)
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))
    meet(environment, device)
    gang = TorchGang()
    if environment.is_main:
        say(f"{world_size} rank{'s' if world_size > 1 else ''} on {device.type}: {images}")

    # --- model --------------------------------------------------------------------------------------------------------
    # From here on the ranks differ: dropout must not hit the same features everywhere.
    torch.manual_seed(config.seed + rank)
    trained = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None) if world_size > 1 else model
    optimizer = build_optimizer(config, model)
    scheduler = build_scheduler(config, optimizer)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    mixed = torch.autocast(device.type, dtype=PRECISIONS.get(config.precision), enabled=config.precision != "fp32")

    def scores_on(part: Images) -> Scores:
        return evaluate(
            model,
            part,
            classes=len(images.classes),
            device=device,
            batch=config.micro_batch or -(-config.global_batch // world_size),
            gang=gang,
            mixed=mixed,
            loader_workers=config.loader_workers,
        )

    # --- loop ---------------------------------------------------------------------------------------------------------
    steps_an_epoch = -(-len(images.train) // config.global_batch)
    run = Run(
        model=trained,
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=scaler,
        state=history.beginning(),
        total_steps=config.epochs * steps_an_epoch,
        main_metric="val_accuracy",
        gang=gang,
    )
    run.resume()
    for epoch in run.epochs(0 if run.state["finished"] else config.epochs):
        trained.train()
        steps = plan_epoch(
            len(images.train),
            epoch=epoch,
            seed=config.seed,
            start=run.position,
            global_batch=config.global_batch,
            micro_batch=config.micro_batch,
            rank=rank,
            world_size=world_size,
        )
        parts = [part for step in steps for part in step.micro_batches]
        drawn = run.data(batches(images.train, parts, loader_workers=config.loader_workers))
        for step in steps:
            loss = torch.zeros((), device=device)
            for number in range(len(step.micro_batches)):
                inputs, labels = (tensor.to(device, non_blocking=True) for tensor in next(drawn))
                is_last = number == len(step.micro_batches) - 1
                # Only the last micro-batch of a step makes the ranks exchange gradients.
                with contextlib.nullcontext() if is_last or world_size == 1 else trained.no_sync():
                    with mixed:
                        logits = trained(inputs)
                        losses = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=config.label_smoothing)
                        micro_loss = losses / step.samples
                    if step.is_padding:
                        micro_loss = micro_loss * 0.0
                    # DDP averages over ranks; the sum over them is what a step over the global batch asks for.
                    scaler.scale(micro_loss * world_size).backward()
                loss += micro_loss.detach()
            norm = None
            if config.clip_norm is not None:
                scaler.unscale_(optimizer)
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            if curve.is_point_due(run, config.log_every_steps):
                length = gradient_norm(model) if norm is None else float(norm)
                curve.add_point(run, float(gang.total(float(loss))), gradient_norm=length)
            optimizer.zero_grad(set_to_none=True)
            time.sleep(config.step_delay_seconds)
            run.step(samples=step.samples)

        scores, rate = scores_on(images.validation), optimizer.param_groups[0]["lr"]
        if scheduler is not None:
            scheduler.step()
        if history.end_epoch(run, config, scores=scores, rate=rate, weights=lambda: copied(model)):
            break
    run.state["finished"] = True
    run.close()

    # --- test and save ------------------------------------------------------------------------------------------------
    if run.state["best_weights"] is not None:
        model.load_state_dict(run.state["best_weights"])
    scores = scores_on(images.test)
    history.log_test(run, scores)
    if environment.is_main:
        save_classifier(environment, config, images, run, scores, model, framework="torch")
    gang.disband()

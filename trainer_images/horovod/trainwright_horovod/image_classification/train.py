"""Trains an image classifier with Horovod on any number of ranks, from top to bottom: set up, data, model, loop, test, save.

Gradients are summed over the ranks' shares of the global batch, however it is shared out, so the loss curve doesn't depend on
the number of workers. Everything that must survive a stop is in `run` (see `trainwright_runtime.torch`).
"""

from __future__ import annotations

import time

import horovod.torch as hvd
import torch
import torch.nn.functional as F

from trainwright_horovod.image_classification.config import TrainingConfig
from trainwright_runtime import curve
from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, leave, say
from trainwright_runtime.horovod.gang import HorovodGang, meet
from trainwright_runtime.images import history
from trainwright_runtime.images.data import Images, load
from trainwright_runtime.images.scores import Scores
from trainwright_runtime.order import plan_epoch
from trainwright_runtime.torch import Run
from trainwright_runtime.torch.artifacts import save_classifier
from trainwright_runtime.torch.configured import build_optimizer, build_scheduler, choose_device
from trainwright_runtime.torch.images import batches, build, copied, evaluate, gradient_norm

COMPRESSIONS = {"none": hvd.Compression.none, "fp16": hvd.Compression.fp16}


def train(environment: RankEnvironment, config: TrainingConfig) -> None:
    """The whole training of one rank."""
    # --- set up -------------------------------------------------------------------------------------------------------
    try:
        device = choose_device(config.device, environment)
        images = load(environment.data, config)
        torch.manual_seed(config.seed)
        model = build(config.model, channels=images.shape[2], classes=len(images.classes), dropout=config.dropout).to(device)
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))
    meet()
    gang = HorovodGang()
    rank, world_size = gang.rank, gang.size
    if environment.is_main:
        say(f"{world_size} rank{'s' if world_size > 1 else ''} on {device.type}: {images}")

    # --- model --------------------------------------------------------------------------------------------------------
    # From here on the ranks differ: dropout must not hit the same features everywhere.
    torch.manual_seed(config.seed + rank)
    optimizer = hvd.DistributedOptimizer(
        build_optimizer(config, model),
        named_parameters=model.named_parameters(),
        compression=COMPRESSIONS[config.compression],
        op=hvd.Sum,
    )
    scheduler = build_scheduler(config, optimizer)

    def scores_on(part: Images) -> Scores:
        return evaluate(
            model,
            part,
            classes=len(images.classes),
            device=device,
            batch=-(-config.global_batch // world_size),
            gang=gang,
            loader_workers=config.loader_workers,
        )

    # --- loop ---------------------------------------------------------------------------------------------------------
    steps_an_epoch = -(-len(images.train) // config.global_batch)
    run = Run(
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        state=history.beginning(),
        total_steps=config.epochs * steps_an_epoch,
        main_metric="val_accuracy",
        gang=gang,
    )
    run.resume()
    for epoch in run.epochs(0 if run.state["finished"] else config.epochs):
        model.train()
        steps = plan_epoch(
            len(images.train),
            epoch=epoch,
            seed=config.seed,
            start=run.position,
            global_batch=config.global_batch,
            rank=rank,
            world_size=world_size,
        )
        parts = [step.micro_batches[0] for step in steps]
        drawn = run.data(batches(images.train, parts, loader_workers=config.loader_workers))
        for step in steps:
            inputs, labels = (tensor.to(device, non_blocking=True) for tensor in next(drawn))
            optimizer.zero_grad()
            losses = F.cross_entropy(model(inputs), labels, reduction="sum", label_smoothing=config.label_smoothing)
            loss = losses / step.samples
            if step.is_padding:
                loss = loss * 0.0
            loss.backward()
            norm = None
            if config.clip_norm is None:
                optimizer.step()
            else:
                # The gradients of all ranks together are what is clipped.
                optimizer.synchronize()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
                with optimizer.skip_synchronize():
                    optimizer.step()
            time.sleep(config.step_delay_seconds)
            if curve.is_point_due(run, config.log_every_steps):
                length = gradient_norm(model) if norm is None else float(norm)
                curve.add_point(run, float(gang.total(float(loss.detach()))), gradient_norm=length)
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
        save_classifier(environment, config, images, run, scores, model, framework="horovod")
    gang.disband()

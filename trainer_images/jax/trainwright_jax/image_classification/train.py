"""Trains an image classifier on all devices of all workers, from top to bottom: set up, data, model, loop, test, save.

Parameters are replicated, a step's images are spread over the devices, and XLA sums what they find: the loss is that of the
global batch, so its curve doesn't depend on the number of workers. What must survive a stop is in `run.tree` and `run.state`.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainwright_jax.image_classification.config import TrainingConfig
from trainwright_jax.image_classification.export import model_files
from trainwright_jax.image_classification.models import build
from trainwright_runtime import curve
from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, leave, say
from trainwright_runtime.images import artifact, history
from trainwright_runtime.images.data import Images, load
from trainwright_runtime.images.scores import Scores, Tally
from trainwright_runtime.jax import Run
from trainwright_runtime.jax.gang import JaxGang, meet
from trainwright_runtime.jax.run import copied, local
from trainwright_runtime.order import Step, plan_epoch
from trainwright_runtime.progress import report


def train(environment: RankEnvironment, config: TrainingConfig) -> None:
    """The whole training of one process."""
    # --- set up -------------------------------------------------------------------------------------------------------
    if config.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        images = load(environment.data, config)
        meet(environment)
        if config.device == "cuda" and jax.default_backend() != "gpu":
            raise InvalidConfig(f"key 'device' has the value 'cuda', but this worker has only {jax.default_backend()} devices")
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))
    gang = JaxGang()
    mesh = Mesh(jax.devices(), ("data",))
    replicated, spread = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    if gang.rank == 0:
        say(f"{gang.size} worker{'s' if gang.size > 1 else ''}, {jax.device_count()} {jax.default_backend()} devices: {images}")

    # --- model --------------------------------------------------------------------------------------------------------
    model = build(config, classes=len(images.classes))
    seed = jax.random.key(config.seed)
    steps_an_epoch = -(-len(images.train) // config.global_batch)
    rates = jnp.array([config.learning_rate_at(epoch) for epoch in range(config.epochs)])
    optimizer = build_optimizer(config, lambda count: rates[count // steps_an_epoch])

    def begin() -> dict[str, Any]:
        parameters = model.init(seed, jnp.zeros((1, *images.shape)), training=False)["params"]
        return {"parameters": parameters, "optimizer": optimizer.init(parameters)}

    @jax.jit
    def update(tree: dict[str, Any], number: jax.Array, batch: jax.Array, labels: jax.Array, weights: jax.Array) -> Any:
        def loss_of(parameters: Any) -> jax.Array:
            # A key for each step: a training that resumes drops the same features.
            dropout = {"dropout": jax.random.fold_in(seed, number)}
            logits = model.apply({"params": parameters}, batch, training=True, rngs=dropout)
            targets = optax.smooth_labels(jax.nn.one_hot(labels, len(images.classes)), config.label_smoothing)
            return jnp.sum(weights * optax.softmax_cross_entropy(logits, targets))

        loss, gradients = jax.value_and_grad(loss_of)(tree["parameters"])
        changes, state = optimizer.update(gradients, tree["optimizer"], tree["parameters"])
        tree = {"parameters": optax.apply_updates(tree["parameters"], changes), "optimizer": state}
        return tree, loss, optax.global_norm(gradients)

    @jax.jit
    def predict(parameters: Any, batch: jax.Array) -> jax.Array:
        return model.apply({"params": parameters}, batch, training=False)

    def scores_on(parameters: Any, part: Images) -> Scores:
        tally = Tally(len(images.classes))
        evaluate(predict, jax.tree.map(local, parameters), part, tally, config, gang)
        return tally.scores(gang)

    # --- loop ---------------------------------------------------------------------------------------------------------
    run = Run(
        jax.jit(begin, out_shardings=replicated)(),
        state=history.beginning(),
        total_steps=config.epochs * steps_an_epoch,
        main_metric="val_accuracy",
        gang=gang,
    )
    run.resume()
    room = -(-config.global_batch // jax.device_count()) * jax.local_device_count()
    for epoch in run.epochs(0 if run.state["finished"] else config.epochs):
        rate = config.learning_rate_at(epoch)
        steps = plan_epoch(
            len(images.train),
            epoch=epoch,
            seed=config.seed,
            start=run.position,
            global_batch=config.global_batch,
            rank=gang.rank,
            world_size=gang.size,
        )
        drawn = run.data(filled(images.train, step, room) for step in steps)
        for step in steps:
            batch = [jax.make_array_from_process_local_data(spread, part) for part in next(drawn)]
            run.tree, loss, norm = update(run.tree, np.uint32(run.steps), *batch)
            time.sleep(config.step_delay_seconds)
            if curve.is_point_due(run, config.log_every_steps):
                curve.add_point(run, float(loss), gradient_norm=float(norm), learning_rate=rate)
            run.step(samples=step.samples)

        scores = scores_on(run.tree["parameters"], images.validation)
        if history.end_epoch(run, config, scores=scores, rate=rate, weights=lambda: copied(run.tree["parameters"])):
            break
    run.state["finished"] = True
    run.close()

    # --- test and save ------------------------------------------------------------------------------------------------
    parameters = run.state["best_weights"]
    if parameters is None:
        parameters = copied(run.tree["parameters"])
    scores = scores_on(parameters, images.test)
    history.log_test(run, scores)
    if gang.rank == 0:
        files = model_files(lambda batch: model.apply({"params": parameters}, batch, training=False), parameters, images.shape)

        def answer(pixels: Any) -> Any:
            return predict(parameters, pixels)

        artifact.save(environment, config, images, run, scores, framework="jax", model=files, answer=answer)
    gang.disband()


def build_optimizer(config: TrainingConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    """The configured optimizer over all weights, of gradients that may be clipped before."""
    match config.optimizer:
        case "adam":
            made = optax.chain(optax.add_decayed_weights(config.weight_decay), optax.adam(rate))
        case "adamw":
            made = optax.adamw(rate, weight_decay=config.weight_decay)
        case "sgd":
            made = optax.chain(optax.add_decayed_weights(config.weight_decay), optax.sgd(rate, momentum=config.momentum))
    return made if config.clip_norm is None else optax.chain(optax.clip_by_global_norm(config.clip_norm), made)


def filled(images: Images, step: Step, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """This worker's share of a step, filled up to `room` images of no weight: each shape would be a program to compile.

    Weights make the sum over all devices the mean over the step's images.
    """
    chosen = [] if step.is_padding else step.micro_batches[0]
    indices = [*chosen, *[step.micro_batches[0][0]] * (room - len(chosen))]
    batch, labels = images.take(indices)
    weights = np.zeros(room, dtype=np.float32)
    weights[: len(chosen)] = 1 / step.samples
    return batch, labels.astype(np.int32), weights


def evaluate(predict: Any, parameters: Any, images: Images, tally: Tally, config: TrainingConfig, gang: JaxGang) -> None:
    """Count what the model makes of this worker's share of the images."""
    share = list(range(gang.rank, len(images), gang.size))
    size = -(-config.global_batch // gang.size)
    for at in range(0, len(share), size):
        indices = share[at : at + size]
        batch, labels = images.take(indices + indices[:1] * (size - len(indices)))
        tally.add(np.asarray(predict(parameters, batch))[: len(indices)], labels[: len(indices)])
        report()

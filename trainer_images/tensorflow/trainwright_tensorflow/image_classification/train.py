"""Trains an image classifier on any number of workers, from top to bottom: set up, data, model, loop, test, save.

The loop is one of our own over a Keras 3 model, because `fit` of Keras 3 can't be used with several workers (keras#20585).
Gradients are summed over the replicas' shares of the global batch, however it is shared out, so the loss curve doesn't depend on
the number of workers. Everything that must survive a stop is in `run` (see `trainwright_runtime.tensorflow`).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainwright_runtime import curve
from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, leave, say
from trainwright_runtime.images import artifact, history
from trainwright_runtime.images.data import Images, load
from trainwright_runtime.images.scores import Scores, Tally
from trainwright_runtime.progress import report
from trainwright_runtime.tensorflow import Run
from trainwright_runtime.tensorflow.gang import TensorFlowGang
from trainwright_tensorflow.devices import POLICIES, choose_strategy
from trainwright_tensorflow.files import model_files
from trainwright_tensorflow.image_classification.config import TrainingConfig
from trainwright_tensorflow.image_classification.feed import Kept, batches, evaluation_shares
from trainwright_tensorflow.image_classification.models import build, build_augmentation, build_optimizer
from trainwright_tensorflow.replicas import Replicas, digest, tell_replicas_apart, weights_of
from trainwright_tensorflow.steps import evaluation_step, training_step

SAMPLES = 4
"""Images that the model's files are compared by."""


def train(environment: RankEnvironment, config: TrainingConfig) -> None:
    """The whole training of one worker."""
    # --- set up -------------------------------------------------------------------------------------------------------
    try:
        images = load(environment.data, config)
        classes = len(images.classes)
        keras.utils.set_random_seed(config.seed)
        keras.config.set_dtype_policy(POLICIES[config.precision])
        strategy = choose_strategy(config, environment)
        with strategy.scope():
            model = build(config.model, shape=images.shape, classes=classes, dropout=config.dropout)
            augmentation = build_augmentation(config.augment)
            optimizer = build_optimizer(config)
            optimizer.build(model.trainable_variables)
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))
    gang = TensorFlowGang(strategy)
    replicas = Replicas(strategy, worker=gang.rank, workers=gang.size)
    if environment.is_main:
        say(f"{replicas}: {images}")

    # --- model --------------------------------------------------------------------------------------------------------
    generators = [layer.generator for layer in augmentation.layers]
    tell_replicas_apart(model, generators, first=replicas.here[0])

    def losses_of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Cross-entropy, with a part of each label spread over all classes."""
        exact = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if not config.label_smoothing:
            return exact
        spread = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=1)
        return (1 - config.label_smoothing) * exact + config.label_smoothing * spread

    take_step = training_step(
        strategy, model, optimizer, losses_of, jit=config.jit, clip_norm=config.clip_norm, augmentation=augmentation
    )
    look_at = evaluation_step(strategy, model)

    def scores_on(part: Images) -> Scores:
        """Scores over all these images, each replica having looked at its share: the same on every worker."""
        shares = list(evaluation_shares(len(part), batch=-(-config.global_batch // replicas.total), replicas=replicas))
        drawn = batches(part, [indices for step in shares for indices, _ in step], loader_workers=config.loader_workers)
        tally = Tally(classes)
        for step in shares:
            inputs, labels = zip(*(next(drawn) for _ in step), strict=True)
            answers = replicas.results(look_at(replicas.distribute(inputs)))
            for logits, truth, (_, count) in zip(answers, labels, step, strict=True):
                tally.add(logits[:count], truth[:count])
            report()
        return tally.scores(gang)

    # --- loop ---------------------------------------------------------------------------------------------------------
    training_images = Kept(images.train, images.shape) if config.cache else images.train
    steps_an_epoch = -(-len(training_images) // config.global_batch)
    run = Run(
        model=model,
        optimizer=optimizer,
        strategy=strategy,
        generators=generators,
        state=history.beginning(),
        total_steps=config.epochs * steps_an_epoch,
        main_metric="val_accuracy",
        gang=gang,
    )
    run.resume()
    for epoch in run.epochs(0 if run.state["finished"] else config.epochs):
        rate = optimizer.learning_rate = config.learning_rate_at(epoch)
        steps = replicas.plan_epoch(
            len(training_images), epoch=epoch, seed=config.seed, start=run.position, global_batch=config.global_batch
        )
        parts = [share.micro_batches[0] for step in steps for share in step]
        drawn = run.data(batches(training_images, parts, loader_workers=config.loader_workers))
        for step in steps:
            inputs, labels = zip(*(next(drawn) for _ in step), strict=True)
            loss = take_step(*(replicas.distribute(values) for values in (inputs, labels, weights_of(step))))
            time.sleep(config.step_delay_seconds)
            if curve.is_point_due(run, config.log_every_steps):
                curve.add_point(run, float(gang.total(sum(replicas.results(loss)))))
            run.step(samples=step[0].samples)

        scores = scores_on(images.validation)
        if history.end_epoch(run, config, scores=scores, rate=rate, weights=lambda: copied(model)):
            break
    run.state["finished"] = True
    run.close()

    # --- test and save ------------------------------------------------------------------------------------------------
    if run.state["best_weights"] is not None:
        model.set_weights(run.state["best_weights"])
    # Each worker's own, so that a log tells whether they have learnt the same.
    say(f"weights of worker {gang.rank}: sha256 {digest(model)}")
    scores = scores_on(images.test)
    history.log_test(run, scores)
    if environment.is_main:
        keras.config.set_dtype_policy("float32")
        plain = build(config.model, shape=images.shape, classes=classes, dropout=config.dropout)
        plain.set_weights(model.get_weights())
        with tempfile.TemporaryDirectory() as folder:
            few = {"images": images.test.take(range(min(SAMPLES, len(images.test))))[0]}
            files = model_files(plain, Path(folder), output="logits", samples=few)

            def answer(pixels: Any) -> Any:
                return plain(pixels, training=False).numpy()

            artifact.save(environment, config, images, run, scores, framework="tensorflow", model=files, answer=answer)
    gang.disband()


def copied(model: keras.Model) -> list[Any]:
    """The model's weights as they are now."""
    return [np.array(weight) for weight in model.get_weights()]

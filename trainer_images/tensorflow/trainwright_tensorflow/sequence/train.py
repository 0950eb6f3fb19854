"""Trains a network to forecast a series on any number of workers, from top to bottom: set up, data, model, loop, test, save.

The loop is that of `image_classification`: gradients are summed over the replicas' shares of the global batch, however it is
shared out, so the loss curve doesn't depend on the number of workers. Everything that must survive a stop is in `run` (see
`trainwright_runtime.tensorflow`).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from trainwright_runtime import curve
from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.exits import Exit, leave, say
from trainwright_runtime.progress import report
from trainwright_runtime.series import artifact
from trainwright_runtime.series.data import Floats, Places, load
from trainwright_runtime.series.scores import MAIN_METRIC, measured
from trainwright_runtime.tensorflow import Run
from trainwright_runtime.tensorflow.gang import TensorFlowGang
from trainwright_tensorflow.devices import POLICIES, choose_strategy, with_loss_scale
from trainwright_tensorflow.files import model_files
from trainwright_tensorflow.replicas import Replicas, digest, tell_replicas_apart, weights_of
from trainwright_tensorflow.sequence.config import TrainingConfig
from trainwright_tensorflow.sequence.model import build_network
from trainwright_tensorflow.steps import training_step

WINDOWS_AT_A_TIME = 1024
"""When a part is measured: there is memory for the series, and there needn't be for all windows over it."""


def train(environment: RankEnvironment, config: TrainingConfig) -> None:
    """The whole training of one worker."""
    # --- set up -------------------------------------------------------------------------------------------------------
    try:
        data = load(environment.data, config)
        keras.utils.set_random_seed(config.seed)
        keras.config.set_dtype_policy(POLICIES[config.precision])
        strategy = choose_strategy(config, environment)
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))
    with strategy.scope():
        model = build_network(data, config)
        optimizer = with_loss_scale(keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay), config)
        optimizer.build(model.trainable_variables)
    gang = TensorFlowGang(strategy)
    replicas = Replicas(strategy, worker=gang.rank, workers=gang.size)
    if environment.is_main:
        say(f"{replicas}: {data}")

    # --- model --------------------------------------------------------------------------------------------------------
    tell_replicas_apart(model, (), first=replicas.here[0])

    def losses_of(truth: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Squared error in units of how far the target usually moves; the mean over the horizon."""
        return tf.reduce_mean(tf.square((outputs - truth) / data.change), axis=1)

    take_step = training_step(strategy, model, optimizer, losses_of, jit=config.jit, clip_norm=config.clip_norm)
    answer = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)

    def forecast(starts: Places) -> Floats:
        """All forecasts of a part. Every worker makes all of them, and comes to the same scores."""
        said = []
        for at in range(0, len(starts), WINDOWS_AT_A_TIME):
            said.append(answer(data.windows(starts[at : at + WINDOWS_AT_A_TIME])).numpy())
            report()
        return np.concatenate(said)

    # --- loop ---------------------------------------------------------------------------------------------------------
    starts = data.starts["train"]
    run = Run(
        model=model,
        optimizer=optimizer,
        strategy=strategy,
        state=curve.beginning(),
        total_steps=config.epochs * -(-len(starts) // config.global_batch),
        main_metric=f"val_{MAIN_METRIC}",
        gang=gang,
    )
    run.resume()
    for epoch in run.epochs(config.epochs):
        optimizer.learning_rate = config.learning_rate_at(epoch)
        for step in replicas.plan_epoch(
            len(starts), epoch=epoch, seed=config.seed, start=run.position, global_batch=config.global_batch
        ):
            own = [starts[share.micro_batches[0]] for share in step]
            windows = replicas.distribute([data.windows(places) for places in own])
            truth = replicas.distribute([data.truth(places) for places in own])
            loss = take_step(windows, truth, replicas.distribute(weights_of(step)))
            time.sleep(config.step_delay_seconds)
            if curve.is_point_due(run, config.log_every_steps):
                curve.add_point(run, float(gang.total(sum(replicas.results(loss)))))
            run.step(samples=step[0].samples)
        curve.end_epoch(run, measured(forecast(data.starts["validation"]), data.starts["validation"], data))
    run.close()

    # --- test and save ------------------------------------------------------------------------------------------------
    # Each worker's own, so that a log tells whether they have learnt the same.
    say(f"weights of worker {gang.rank}: sha256 {digest(model)}")
    said = forecast(data.starts["test"])
    test = measured(said, data.starts["test"], data)
    curve.log_test(run, test)
    if environment.is_main:
        keras.config.set_dtype_policy("float32")
        plain = build_network(data, config)
        plain.set_weights(model.get_weights())
        windows = data.windows(data.starts["test"][: artifact.SAMPLES])
        with tempfile.TemporaryDirectory() as folder:
            files = model_files(plain, Path(folder), output=artifact.OUTPUT, samples={artifact.INPUT: windows})
            answers = plain(windows, training=False).numpy()
            artifact.save(environment, config, data, run, test, framework="tensorflow", said=said, outputs=answers, model=files)
    gang.disband()

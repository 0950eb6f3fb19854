"""Trains a perceptron on a table on any number of workers, from top to bottom: set up, data, model, loop, test, save.

The loop is that of `image_classification`: gradients are summed over the replicas' shares of the global batch, however it is
shared out, so the loss curve doesn't depend on the number of workers. Everything that must survive a stop is in `run` (see
`trainwright_runtime.tensorflow`).
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
from trainwright_runtime.progress import report
from trainwright_runtime.tabular import network
from trainwright_runtime.tabular.data import Part, load
from trainwright_runtime.tensorflow import Run
from trainwright_runtime.tensorflow.gang import TensorFlowGang
from trainwright_tensorflow.devices import POLICIES, choose_strategy, with_loss_scale
from trainwright_tensorflow.replicas import Replicas, digest, tell_replicas_apart, weights_of
from trainwright_tensorflow.steps import training_step
from trainwright_tensorflow.tabular import artifacts
from trainwright_tensorflow.tabular.config import TrainingConfig
from trainwright_tensorflow.tabular.model import build_network, codes_of

ROWS_AT_A_TIME = 4096
"""When a part is measured: there is memory for its table, and there needn't be for every layer's answer to all of it."""


def train(environment: RankEnvironment, config: TrainingConfig) -> None:
    """The whole training of one worker."""
    # --- set up -------------------------------------------------------------------------------------------------------
    try:
        data = load(environment.data, config)
        columns = network.columns_of(data)
        keras.utils.set_random_seed(config.seed)
        keras.config.set_dtype_policy(POLICIES[config.precision])
        strategy = choose_strategy(config, environment)
    except InvalidConfig as error:
        leave(Exit.INVALID_CONFIG, str(error))
    with strategy.scope():
        model = build_network(data, columns, config)
        optimizer = with_loss_scale(keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay), config)
        optimizer.build(model.trainable_variables)
    gang = TensorFlowGang(strategy)
    replicas = Replicas(strategy, worker=gang.rank, workers=gang.size)
    if environment.is_main:
        say(f"{replicas}: {data}")

    # --- model --------------------------------------------------------------------------------------------------------
    tell_replicas_apart(model, (), first=replicas.here[0])

    def losses_of(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Cross-entropy, or squared error in units of the target's variance."""
        if data.task == "regression":
            return tf.square((outputs - targets) / columns.target_scale)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, outputs)

    take_step = training_step(strategy, model, optimizer, losses_of, jit=config.jit)
    answer = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)

    def measured(part: Part) -> dict[str, Any]:
        """Scores over these rows. A table's held-out part is small: every worker looks at all of it, and comes to the same."""
        inputs = codes_of(part, data, columns)
        outputs = []
        for at in range(0, len(part), ROWS_AT_A_TIME):
            outputs.append(answer({name: array[at : at + ROWS_AT_A_TIME] for name, array in inputs.items()}).numpy())
            report()
        return network.measured(np.concatenate(outputs), part, data)

    # --- loop ---------------------------------------------------------------------------------------------------------
    inputs, targets = codes_of(data.train, data, columns), network.targets_of(data.train, data)
    run = Run(
        model=model,
        optimizer=optimizer,
        strategy=strategy,
        state=curve.beginning(),
        total_steps=config.epochs * -(-len(data.train) // config.global_batch),
        main_metric=f"val_{data.main_metric}",
        gang=gang,
    )
    run.resume()
    for epoch in run.epochs(config.epochs):
        optimizer.learning_rate = config.learning_rate_at(epoch)
        for step in replicas.plan_epoch(
            len(data.train), epoch=epoch, seed=config.seed, start=run.position, global_batch=config.global_batch
        ):
            rows = [share.micro_batches[0] for share in step]
            drawn = {name: replicas.distribute([array[own] for own in rows]) for name, array in inputs.items()}
            truth = replicas.distribute([targets[own] for own in rows])
            loss = take_step(drawn, truth, replicas.distribute(weights_of(step)))
            time.sleep(config.step_delay_seconds)
            if curve.is_point_due(run, config.log_every_steps):
                curve.add_point(run, float(gang.total(sum(replicas.results(loss)))))
            run.step(samples=step[0].samples)
        curve.end_epoch(run, measured(data.validation))
    run.close()

    # --- test and save ------------------------------------------------------------------------------------------------
    # Each worker's own, so that a log tells whether they have learnt the same.
    say(f"weights of worker {gang.rank}: sha256 {digest(model)}")
    test = measured(data.test)
    curve.log_test(run, test)
    if environment.is_main:
        keras.config.set_dtype_policy("float32")
        plain = build_network(data, columns, config)
        plain.set_weights(model.get_weights())
        with tempfile.TemporaryDirectory() as folder:
            artifacts.save(environment, config, data, columns, plain, run, test, Path(folder))
    gang.disband()

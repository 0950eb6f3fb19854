"""One step of every replica, of training and of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from trainwright_runtime.tensorflow.state import is_seed

SUM, MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN


def training_step(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: Any,
    losses_of: Callable[[Any, Any], tf.Tensor],
    *,
    jit: bool,
    clip_norm: float | None = None,
    augmentation: keras.Sequential | None = None,
) -> Any:
    """A function of inputs, targets and the weight of each sample's loss, one of each for each replica.

    It changes the model by the sum of all replicas' gradients, and returns each replica's part of the loss. `losses_of`: from
    targets and the model's outputs to the loss of each sample. `augmentation` changes inputs before the model sees them.
    Gradients of the whole step that are together longer than `clip_norm` are shortened to it.
    """
    has_scale = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    statistics = [variable for variable in model.non_trainable_variables if not is_seed(variable)]

    def gradients_of(inputs: Any, targets: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = weight * tf.reduce_sum(losses_of(targets, model(inputs, training=True)))
            scaled = optimizer.scale_loss(loss)
        return loss, tape.gradient(scaled, model.trainable_variables)

    compiled = tf.function(gradients_of, jit_compile=True, reduce_retracing=True) if jit else gradients_of

    def of_a_replica(inputs: Any, targets: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        changed = augmentation(inputs, training=True) if augmentation is not None and augmentation.layers else inputs
        loss, gradients = compiled(changed, targets, weight)
        if has_scale:
            gradients = agreed(gradients, replica)
        if clip_norm is not None:
            gradients = clipped(gradients, optimizer.scale_loss(tf.constant(clip_norm)), replica)
        # The optimizer sums the gradients over the replicas itself.
        optimizer.apply(gradients, model.trainable_variables)
        if statistics:
            # Batch normalisation keeps them for each replica, from its share alone.
            for variable, mean in zip(
                statistics, replica.all_reduce(MEAN, [tf.convert_to_tensor(one) for one in statistics]), strict=True
            ):
                variable.assign(mean)
        return loss

    @tf.function(reduce_retracing=True)
    def step(inputs: Any, targets: Any, weight: Any) -> Any:
        return strategy.run(of_a_replica, args=(inputs, targets, weight))

    return step


def agreed(gradients: list[tf.Tensor], replica: Any) -> list[tf.Tensor]:
    """The gradients, or none but NaN in every replica when one has some that aren't finite.

    Keras asks each replica for itself whether to take a step in fp16, and one that doesn't leaves the others waiting for ever.
    """
    faults = tf.add_n([tf.cast(tf.reduce_any(~tf.math.is_finite(one)), tf.float32) for one in gradients])
    together = replica.all_reduce(SUM, faults)
    return [tf.where(together > 0, tf.constant(float("nan"), one.dtype), one) for one in gradients]


def clipped(gradients: list[tf.Tensor], norm: tf.Tensor, replica: Any) -> list[tf.Tensor]:
    """Each replica's equal share of the gradients' sum over all replicas, whose length is at most `norm`.

    Keras' own clipping is of each replica's part, so how much is cut off would depend on their number.
    """
    # Those of an embedding are sparse.
    together, _ = tf.clip_by_global_norm(replica.all_reduce(SUM, [tf.convert_to_tensor(one) for one in gradients]), norm)
    return [one / replica.num_replicas_in_sync for one in together]


def evaluation_step(strategy: tf.distribute.Strategy, model: keras.Model) -> Any:
    """A function of inputs, as many for each replica: the outputs that each replica finds."""

    def of_a_replica(inputs: Any) -> tf.Tensor:
        return model(inputs, training=False)

    @tf.function(reduce_retracing=True)
    def step(inputs: Any) -> Any:
        return strategy.run(of_a_replica, args=(inputs,))

    return step

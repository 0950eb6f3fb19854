"""Where a recipe trains: which devices TensorFlow sees, and the strategy over them. Nothing may have used TensorFlow before."""

from __future__ import annotations

import os

import keras
import tensorflow as tf

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.startup import RENDEZVOUS, STARTUP
from trainwright_tensorflow.config import TensorFlowConfig

POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


def choose_strategy(config: TensorFlowConfig, environment: RankEnvironment) -> tf.distribute.Strategy:
    """One worker mirrors over its devices; several find each other by TF_CONFIG, and wait here until all have come.

    Raises InvalidConfig when the configuration asks for devices that there are none of.
    """
    gpus = [] if config.device == "cpu" else tf.config.list_physical_devices("GPU")
    several = environment.world_size > 1
    if several and not os.environ.get("TF_CONFIG"):
        raise InvalidConfig(f"TF_CONFIG is missing: without it, {environment.world_size} workers can't find each other")
    if config.device == "cuda" and not gpus:
        raise InvalidConfig("key 'device' has the value 'cuda', but this worker has no GPU that TensorFlow can use")
    wanted = config.replicas or max(1, len(gpus))
    if gpus and wanted > len(gpus):
        raise InvalidConfig(f"key 'replicas' has the value {wanted}, but this worker has {len(gpus)} GPUs")
    if several and not gpus and wanted > 1:
        raise InvalidConfig(
            f"key 'replicas' has the value {wanted}, but a worker among several has one replica on the CPU; accepted: 1"
        )
    _limit_threads()
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.config.set_visible_devices(gpus[:wanted], "GPU")
    for gpu in gpus[:wanted]:
        tf.config.experimental.set_memory_growth(gpu, True)
    if several:
        with STARTUP.part(RENDEZVOUS):
            return tf.distribute.MultiWorkerMirroredStrategy()
    if gpus:
        return tf.distribute.MirroredStrategy()
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(wanted)])


def with_loss_scale(optimizer: keras.optimizers.Optimizer, config: TensorFlowConfig) -> keras.optimizers.Optimizer:
    """The optimizer, with a loss scale that finds itself for fp16."""
    return keras.optimizers.LossScaleOptimizer(optimizer) if config.precision == "fp16" else optimizer


def _limit_threads() -> None:
    """TensorFlow starts a thread for each core of the machine, whatever share of them the pod has."""
    if threads := os.environ.get("OMP_NUM_THREADS"):
        tf.config.threading.set_intra_op_parallelism_threads(int(threads))
        # One for what waits, beside one for what works.
        tf.config.threading.set_inter_op_parallelism_threads(max(2, int(threads)))

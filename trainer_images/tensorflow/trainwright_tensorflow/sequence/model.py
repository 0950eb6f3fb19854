"""A network that takes a window of a series as it is, and gives the rows after it: scaling is part of it, and all of it is made
of Keras' own layers and operations, so whoever loads it needs no code of ours. What it learns is how the target moves away from
its last known value; so a level that it has never seen, as a growing series has, is none to be afraid of.
"""

from __future__ import annotations

from typing import Any

import keras

from trainwright_runtime.series.artifact import INPUT
from trainwright_runtime.series.config import NetworkConfig
from trainwright_runtime.series.data import SeriesData


def build_network(data: SeriesData, config: NetworkConfig) -> keras.Model:
    """From values, (batch, window, channels), to forecasts, (batch, horizon), all in their own units; float32 at both ends."""
    values = keras.Input((data.window, len(data.channels)), name=INPUT, dtype="float32")
    target = values[:, :, :1]
    last = target[:, -1:, :]
    scaled = (target - last) / data.change
    if len(data.channels) > 1:
        scaled = keras.ops.concatenate([scaled, (values[:, :, 1:] - data.means[1:]) / data.scales[1:]], axis=2)
    encoded = _recurrent(scaled, config) if config.model == "lstm" else _attentive(scaled, config)
    # It begins as the naive forecast that repeats the last value.
    moved = keras.layers.Dense(data.horizon, kernel_initializer="zeros", dtype="float32")(encoded)
    return keras.Model(values, last[:, :, 0] + moved * data.change, name="forecaster")


def _recurrent(rows: Any, config: NetworkConfig) -> Any:
    """LSTMs above each other; the last output, (batch, units)."""
    for layer in range(config.layers):
        rows = keras.layers.LSTM(config.units, return_sequences=layer < config.layers - 1)(rows)
        rows = keras.layers.Dropout(config.dropout)(rows)
    return rows


def _attentive(rows: Any, config: NetworkConfig) -> Any:
    """A Transformer's encoder with learned places; what the last row has become, (batch, units)."""
    layers, ops = keras.layers, keras.ops
    places = ops.cumsum(ops.ones_like(rows[:, :, 0], dtype="int32"), axis=1) - 1
    rows = layers.Dense(config.units)(rows) + layers.Embedding(config.window, config.units)(places)
    for _ in range(config.layers):
        before = layers.LayerNormalization()(rows)
        seen = layers.MultiHeadAttention(config.heads, config.units // config.heads)(before, before)
        rows = rows + layers.Dropout(config.dropout)(seen)
        each = layers.Dense(4 * config.units, activation="gelu")(layers.LayerNormalization()(rows))
        rows = rows + layers.Dropout(config.dropout)(layers.Dense(config.units)(each))
    return layers.LayerNormalization()(rows)[:, -1]

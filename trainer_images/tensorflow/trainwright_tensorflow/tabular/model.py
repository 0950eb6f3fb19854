"""A multilayer perceptron over a table's own columns, in two parts.

The network is what is trained: it fills, scales and encodes what it is given, words by their codes, so all of it can be compiled
and put on a GPU, where there are no words. The model that is kept has the words looked up in front of it. Both are made of Keras'
own layers and operations alone, so whoever loads the model needs no code of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from trainwright_runtime.tabular.config import PerceptronConfig
from trainwright_runtime.tabular.data import Part, TabularData
from trainwright_runtime.tabular.network import Columns, rows_of

Inputs = dict[str, Any]
"""By name: `numbers`, (rows, numeric columns) float32, NaN where missing; and `codes`, int64, or `words`, text with `""` where
missing, (rows, categorical columns). What the table has no columns of is left out.
"""


def build_network(data: TabularData, columns: Columns, config: PerceptronConfig) -> keras.Model:
    """Takes numbers and codes; returns logits, (rows, classes), or for a regression predictions, (rows,), in the target's own
    unit: float32, whatever the precision.
    """
    layers, ops = keras.layers, keras.ops
    inputs: Inputs = {}
    encoded = []
    if data.numeric:
        # In float32 up to where the scale is one: half the precision would be too little for a column as it is.
        numbers = inputs["numbers"] = keras.Input((len(data.numeric),), name="numbers", dtype="float32")
        filled = ops.where(ops.isnan(numbers), columns.medians, numbers)
        encoded.append((filled - columns.means) / columns.scales)
    if data.categorical:
        codes = inputs["codes"] = keras.Input((len(data.categorical),), name="codes", dtype="int64")
        # Of the code of an unknown word, -1, this makes zeros.
        encoded += [ops.one_hot(codes[:, at], len(words), dtype="float32") for at, words in enumerate(columns.categories)]
    features = ops.concatenate(encoded, axis=1)
    for units in config.hidden:
        features = layers.Dropout(config.dropout)(layers.Dense(units, activation="relu")(features))
    output = layers.Dense(len(data.classes) or 1, dtype="float32")(features)
    if data.task == "regression":
        output = ops.squeeze(output, 1) * columns.target_scale + columns.target_mean
    return keras.Model(inputs, output, name="network")


def with_words(network: keras.Model, columns: Columns) -> keras.Model:
    """The network as it is served: it takes numbers and words."""
    inputs: Inputs = {}
    taken: Inputs = {}
    if len(columns.medians):
        inputs["numbers"] = taken["numbers"] = keras.Input((len(columns.medians),), name="numbers", dtype="float32")
    if columns.categories:
        words = inputs["words"] = keras.Input((len(columns.categories),), name="words", dtype="string")
        codes = [_codes(words[:, at], known) for at, known in enumerate(columns.categories)]
        taken["codes"] = keras.ops.stack(codes, axis=1)
    return keras.Model(inputs, network(taken), name="perceptron")


def codes_of(part: Part, data: TabularData, columns: Columns) -> Inputs:
    """A part's features as the network takes them."""
    return _present(dict(zip(("numbers", "codes"), rows_of(part, data, columns), strict=True)))


def words_of(part: Part, data: TabularData, columns: Columns) -> Inputs:
    """A part's features as the model takes them that is served."""
    numbers, _ = rows_of(part, data, columns)
    return _present({"numbers": numbers, "words": part.features[list(data.categorical)].to_numpy(dtype=object)})


def _present(inputs: dict[str, np.ndarray[Any, Any]]) -> Inputs:
    return {name: array for name, array in inputs.items() if array.shape[1]}


def _codes(words: Any, known: Sequence[str]) -> Any:
    """Places of the words among the known ones, -1 for others."""
    # The layer keeps a word for those that it doesn't know, which may be none of those it knows: this is longer than any.
    other = max(known, key=len) + "?"
    # It counts from 1, and has 0 for the unknown.
    return keras.layers.StringLookup(vocabulary=list(known), oov_token=other)(words) - 1

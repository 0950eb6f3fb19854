"""The models that learn from images, and what is made beside them: changes to images, and the optimizer."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import keras

from trainwright_runtime.config import InvalidConfig
from trainwright_tensorflow.devices import with_loss_scale
from trainwright_tensorflow.image_classification.config import TrainingConfig

APPLICATIONS = {name.lower(): name for name in dir(keras.applications) if name[0].isupper()}


def build(name: str, *, shape: tuple[int, int, int], classes: int, dropout: float) -> keras.Model:
    """The model of that name with fresh weights, from images in 0…1 to logits in float32.

    Raises InvalidConfig for a name that there is none of, and for images that the model can't take.
    """
    images = keras.Input(shape, name="images")
    centred = keras.layers.Rescaling(2.0, offset=-1.0)(images)
    small = name == "small-cnn"
    features = _small_cnn(centred, size=min(shape[:2]), dropout=dropout) if small else _application(name, centred)
    # Softmax of half the precision would lose what tells two good answers apart.
    return keras.Model(images, keras.layers.Dense(classes, dtype="float32", name="logits")(features), name="classifier")


def _small_cnn(centred: Any, *, size: int, dropout: float) -> Any:
    """Two convolutions and a linear layer: enough for digits, and for a first try on anything small."""
    layers = keras.layers
    features = layers.Conv2D(32, 3, padding="same", activation="relu")(centred)
    features = layers.Conv2D(64, 3, padding="same", activation="relu")(features)
    features = layers.Flatten()(layers.AveragePooling2D(size // 4)(features))
    features = layers.Dense(128, activation="relu")(layers.Dropout(dropout)(features))
    return layers.Dropout(dropout)(features)


def _application(name: str, centred: Any) -> Any:
    """The features of a model of keras.applications, averaged over the image."""
    found = APPLICATIONS.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), ["small-cnn", *APPLICATIONS], n=3) or ["small-cnn", "mobilenetv2"]
        words = ", ".join(APPLICATIONS.get(word, word) for word in near)
        raise InvalidConfig(f"key 'model' has the value {name!r}, which is no model of keras.applications; near it: {words}")
    colour = keras.layers.Concatenate()([centred] * 3) if centred.shape[-1] == 1 else centred
    options = {"include_top": False, "weights": None, "pooling": "avg", "input_tensor": colour}
    if found.startswith(("ConvNeXt", "EfficientNetV2", "MobileNetV3")):
        options["include_preprocessing"] = False
    elif found.startswith("EfficientNet"):
        # The first version brings 0…255 to 0…1 itself, and can't be told not to.
        options["input_tensor"] = keras.layers.Rescaling(127.5, offset=127.5)(colour)
    try:
        return getattr(keras.applications, found)(**options).output
    except ValueError as error:
        raise InvalidConfig(f"model {found} can't be made for images of {tuple(centred.shape[1:])}: {error}") from None


def build_augmentation(changes: Sequence[str]) -> keras.Sequential:
    """What changes training images at random; apart from the model, so that it isn't in what is exported."""
    made = {"flip": lambda: keras.layers.RandomFlip("horizontal"), "rotate": lambda: keras.layers.RandomRotation(0.05)}
    return keras.Sequential([made[change]() for change in changes], name="augmentation")


def build_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """The configured optimizer."""
    rate, decay = config.learning_rate, config.weight_decay
    optimizer: keras.optimizers.Optimizer
    match config.optimizer:
        case "adam":
            optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
        case "adamw":
            optimizer = keras.optimizers.AdamW(rate, weight_decay=decay)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=config.momentum, weight_decay=decay)
    return with_loss_scale(optimizer, config)

"""The images to learn from: where they come from and how they are split. numpy arrays, whatever the framework."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import itertools
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import DataSource
from trainwright_runtime.images.config import ImageConfig
from trainwright_runtime.startup import DATA, STARTUP

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

VALIDATION_SHARE = TEST_SHARE = 0.15


class Images(Protocol):
    """Some images and their labels."""

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int]) -> tuple[Floats, Labels]:
        """Images in 0…1, shaped (batch, height, width, channels), and the numbers of their classes."""
        ...


@dataclasses.dataclass(frozen=True)
class ImagesInMemory:
    """Images that are arrays already."""

    images: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> tuple[Floats, Labels]:
        chosen = list(indices)
        return self.images[chosen], self.labels[chosen]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesInFiles:
    """Images that are decoded when they are needed."""

    files: Sequence[tuple[Path, int]]
    size: int
    channels: int

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Sequence[int]) -> tuple[Floats, Labels]:
        images = np.stack([self._decode(self.files[index][0]) for index in indices])
        return images, np.array([self.files[index][1] for index in indices], dtype=np.int64)

    def _decode(self, path: Path) -> Floats:
        mode = "L" if self.channels == 1 else "RGB"
        with Image.open(path) as image:
            resized = image.convert(mode).resize((self.size, self.size), Image.Resampling.BILINEAR)
            pixels = np.asarray(resized, dtype=np.float32)
        return (pixels / np.float32(255.0)).reshape(self.size, self.size, self.channels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageData:
    """Three parts of one data set. `shape` is (height, width, channels).

    `fingerprint` tells two versions of the data apart, and its `test` two test parts.
    """

    train: Images
    validation: Images
    test: Images
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    fingerprint: dict[str, str]

    def __str__(self) -> str:
        sizes = f"{len(self.train)} training, {len(self.validation)} validation, {len(self.test)} test images"
        return f"{sizes} in {len(self.classes)} classes"


def split(labels: Sequence[int], *, validation: bool = True, test: bool = True) -> tuple[list[int], list[int], list[int]]:
    """Indices for training, validation and test, each class in the same shares, always the same for the same labels."""
    order = np.random.default_rng(0).permutation(len(labels)).tolist()
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in sorted(set(labels)):
        members = [index for index in order if labels[index] == label]
        held_out = round(len(members) * VALIDATION_SHARE) if validation else 0
        tested = round(len(members) * TEST_SHARE) if test else 0
        parts[1].extend(members[:held_out])
        parts[2].extend(members[held_out : held_out + tested])
        parts[0].extend(members[held_out + tested :])
    return parts


@STARTUP.part(DATA)
def load(sources: Sequence[DataSource], config: ImageConfig) -> ImageData:
    """The data of this job; raises InvalidConfig when it can't be told which, or it can't be used."""
    by_name = {source.name: source for source in sources}
    source = by_name.get("train") or (sources[0] if len(sources) == 1 else None)
    if source is None:
        found = f"there are {', '.join(by_name)}" if by_name else "there is none"
        raise InvalidConfig(f"spec.data needs an entry named 'train', or a single one; {found}")
    if source.path is not None:
        return _directory(source.path, config)
    if source.builtin != "digits":
        raise InvalidConfig(f"spec.data {source.name!r} has the value builtin: {source.builtin}; accepted: digits")
    given = config.model_fields_set & {"image_size", "image_channels", "loader_workers", "cache"}
    if given:
        raise InvalidConfig(f"key {min(given)!r} has no effect with builtin: digits; it goes with a directory of images")
    return _digits()


def _digits() -> ImageData:
    # scikit-learn's handwritten digits, read from its file: loading the library for it would take two seconds of every start.
    library = cast(ModuleSpec, importlib.util.find_spec("sklearn"))
    file = Path(cast(str, library.origin)).with_name("datasets") / "data/digits.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images = (table[:, :-1] / np.float32(16.0)).reshape(-1, 8, 8, 1)
    labels = table[:, -1].astype(np.int64)
    indices = split(labels.tolist())
    parts = [ImagesInMemory(images[part], labels[part]) for part in indices]
    return ImageData(
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        classes=tuple(str(digit) for digit in range(10)),
        shape=(8, 8, 1),
        fingerprint={
            "of": "content",
            "sha256": hashlib.sha256(table.tobytes()).hexdigest(),
            "test": hashlib.sha256(table[indices[2]].tobytes()).hexdigest(),
        },
    )


def _directory(root: Path, config: ImageConfig) -> ImageData:
    """One folder a class; or folders `train`, `val` and `test` of which each is like that. Missing parts are split off."""
    if not root.is_dir():
        raise InvalidConfig(f"data directory {root} does not exist")
    parts = {name: root / name for name in ("train", "val", "test") if (root / name).is_dir()}
    if "train" not in parts:
        parts = {"train": root}
    classes = tuple(sorted(folder.name for folder in parts["train"].iterdir() if folder.is_dir()))
    files = {name: _files(folder, classes) for name, folder in parts.items()}
    if len(classes) < 2:
        raise InvalidConfig(
            f"{parts['train']} has {len(classes)} folders with images; at least two classes are needed, a folder each"
        )
    digest = _names_and_sizes(itertools.chain.from_iterable(files.values()), root)
    whole = files["train"]
    indices = split([label for _, label in whole], validation="val" not in files, test="test" not in files)
    for name, part in zip(("train", "val", "test"), indices, strict=True):
        if name == "train" or name not in files:
            files[name] = [whole[index] for index in part]
        if not files[name]:
            raise InvalidConfig(f"{root} has too few images for a {name} part")
    size, channels = config.image_size or 64, config.image_channels or 3
    made: dict[str, Any] = {
        part: ImagesInFiles(files=files[name], size=size, channels=channels)
        for part, name in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    fingerprint = {"of": "names and sizes", "sha256": digest, "test": _names_and_sizes(files["test"], root)}
    return ImageData(**made, classes=classes, shape=(size, size, channels), fingerprint=fingerprint)


def _names_and_sizes(files: Iterable[tuple[Path, int]], root: Path) -> str:
    digest = hashlib.sha256()
    for path, _ in files:
        digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _files(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    unknown = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name not in classes)
    if unknown:
        raise InvalidConfig(f"{folder} has a folder {unknown[0]!r}, which the training part lacks")
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]

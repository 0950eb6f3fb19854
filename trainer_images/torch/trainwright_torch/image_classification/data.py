"""The images to learn from: where they come from, how they are split, and in which order they are trained on.

The order is a function of seed and epoch alone. The number of ranks only decides who takes which part of each step, so one
worker and ten see the same steps, and a training that resumes with another number of workers goes on with the next sample.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import DataSource
from trainwright_torch.image_classification.config import TrainingConfig

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
VALIDATION_SHARE = TEST_SHARE = 0.15

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images, float32 in 0…1 and shaped (batch, channels, height, width), and their labels, int64."""


class ImagesInMemory(Dataset[Batch]):
    """Images that are tensors already."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.images[indices], self.labels[indices]


class ImagesInFiles(Dataset[Batch]):
    """Images that are decoded when they are needed."""

    def __init__(self, files: Sequence[tuple[Path, int]], *, size: int, channels: int) -> None:
        self._files = files
        self._size = (size, size)
        self._mode = "L" if channels == 1 else "RGB"

    def __len__(self) -> int:
        return len(self._files)

    def __getitems__(self, indices: list[int]) -> Batch:
        images = torch.stack([self._decode(self._files[index][0]) for index in indices])
        return images, torch.tensor([self._files[index][1] for index in indices])

    def _decode(self, path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(self._mode).resize(self._size, Image.Resampling.BILINEAR), dtype=np.float32)
        return torch.from_numpy(pixels / 255.0).reshape(*self._size, -1).permute(2, 0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageData:
    """Three parts of one data set. `shape` is (channels, height, width); `fingerprint` tells two versions of the data apart."""

    train: Any
    validation: Any
    test: Any
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    fingerprint: dict[str, str]


def load(sources: Sequence[DataSource], config: TrainingConfig) -> ImageData:
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
    given = config.model_fields_set & {"image_size", "image_channels", "loader_workers"}
    if given:
        raise InvalidConfig(f"key {min(given)!r} has no effect with builtin: digits; it goes with a directory of images")
    return _digits()


def _digits() -> ImageData:
    # scikit-learn's handwritten digits, read from its file: loading the library for it would take two seconds of every start.
    library = cast(ModuleSpec, importlib.util.find_spec("sklearn"))
    file = Path(cast(str, library.origin)).with_name("datasets") / "data/digits.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images = torch.from_numpy(table[:, :-1] / 16.0).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    parts = [ImagesInMemory(images[part], labels[part]) for part in split(labels.tolist())]
    return ImageData(
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        classes=tuple(str(digit) for digit in range(10)),
        shape=(1, 8, 8),
        fingerprint={"of": "content", "sha256": hashlib.sha256(table.tobytes()).hexdigest()},
    )


def _directory(root: Path, config: TrainingConfig) -> ImageData:
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
    digest = hashlib.sha256()
    for path, _ in itertools.chain.from_iterable(files.values()):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
    whole = files["train"]
    indices = split([label for _, label in whole], validation="val" not in files, test="test" not in files)
    for name, part in zip(("train", "val", "test"), indices, strict=True):
        if name == "train" or name not in files:
            files[name] = [whole[index] for index in part]
        if not files[name]:
            raise InvalidConfig(f"{root} has too few images for a {name} part")
    size, channels = config.image_size or 64, config.image_channels or 3
    train, validation, test = (ImagesInFiles(files[name], size=size, channels=channels) for name in ("train", "val", "test"))
    return ImageData(
        train=train,
        validation=validation,
        test=test,
        classes=classes,
        shape=(channels, size, size),
        fingerprint={"of": "names and sizes", "sha256": digest.hexdigest()},
    )


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


def split(labels: Sequence[int], *, validation: bool = True, test: bool = True) -> tuple[list[int], list[int], list[int]]:
    """Indices for training, validation and test, each class in the same shares, always the same for the same labels."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tolist()
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in sorted(set(labels)):
        members = [index for index in order if labels[index] == label]
        held_out = round(len(members) * VALIDATION_SHARE) if validation else 0
        tested = round(len(members) * TEST_SHARE) if test else 0
        parts[1].extend(members[:held_out])
        parts[2].extend(members[held_out : held_out + tested])
        parts[0].extend(members[held_out + tested :])
    return parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step, as this rank sees it: the micro-batches it takes of the `samples` that all ranks take together.

    `is_padding` marks a rank that has none of them: it takes one along, with no weight, so that the others needn't wait.
    """

    samples: int
    micro_batches: list[list[int]]
    is_padding: bool


def plan_epoch(
    size: int, *, epoch: int, seed: int, start: int, global_batch: int, micro_batch: int | None, rank: int, world_size: int
) -> list[Step]:
    """The steps of an epoch over `size` samples, from sample `start` on."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).tolist()
    steps = []
    for first in range(start, size, global_batch):
        together = order[first : first + global_batch]
        share = together[rank::world_size]
        own = share or together[:1]
        chunk = micro_batch or len(own)
        micro_batches = [own[at : at + chunk] for at in range(0, len(own), chunk)]
        steps.append(Step(samples=len(together), micro_batches=micro_batches, is_padding=not share))
    return steps


def batches(dataset: Any, index_lists: Sequence[list[int]], config: TrainingConfig) -> Iterator[Batch]:
    """The images of each list of indices."""
    # A generator of its own: drawing from the global one would make the training depend on how often it was resumed.
    return iter(
        DataLoader(
            dataset,
            batch_sampler=index_lists,
            collate_fn=_as_is,
            num_workers=config.loader_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )
    )


def _as_is(batch: Batch) -> Batch:
    return batch

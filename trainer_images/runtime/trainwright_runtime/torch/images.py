"""Images as tensors, the models that learn from them, and how good those are: shared by the recipes of torch and horovod."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.gang import Gang
from trainwright_runtime.images.data import Images
from trainwright_runtime.images.scores import Scores, Tally
from trainwright_runtime.progress import report

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images, float32 in 0…1 and shaped (batch, channels, height, width), and their labels, int64."""


class _Tensors(Dataset[Batch]):
    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, indices: list[int]) -> Batch:
        images, labels = self._images.take(indices)
        # Not `contiguous()`: with one channel that leaves strides that DDP warns of.
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
        return pixels, torch.from_numpy(labels)


def batches(images: Images, index_lists: Sequence[list[int]], *, loader_workers: int) -> Iterator[Batch]:
    """The images of each list of indices; decoded by this many processes, or in this one for 0."""
    # A generator of its own: drawing from the global one would make the training depend on how often it was resumed.
    return iter(
        DataLoader(
            _Tensors(images),
            batch_sampler=index_lists,
            collate_fn=_as_is,
            num_workers=loader_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )
    )


def _as_is(batch: Batch) -> Batch:
    return batch


class Classifier(nn.Module):
    """A network with its input's scaling: takes images in 0…1, shaped (batch, channels, height, width), gives logits.

    The scaling is part of the model so that whoever serves it needn't know about it.
    """

    def __init__(self, network: nn.Module, *, grey_to_colour: bool) -> None:
        super().__init__()
        self.network = network
        self.grey_to_colour = grey_to_colour

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scaled = (images - 0.5) / 0.5
        if self.grey_to_colour:
            scaled = scaled.expand(-1, 3, -1, -1)
        logits: torch.Tensor = self.network(scaled)
        return logits


def small_cnn(*, channels: int, classes: int, dropout: float) -> nn.Module:
    """Two convolutions and two linear layers: enough for digits, and for a first try on anything small.

    It has no batch normalisation, whose statistics are a rank's own: so it learns the same whatever the number of ranks.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, classes),
    )


def build(name: str, *, channels: int, classes: int, dropout: float) -> Classifier:
    """The model of that name with fresh weights; raises InvalidConfig for a name that there is none of."""
    if name == "small-cnn":
        return Classifier(small_cnn(channels=channels, classes=classes, dropout=dropout), grey_to_colour=False)
    # Loading torchvision takes seconds, and small-cnn needs none of it.
    import torchvision  # noqa: PLC0415

    # These two give several outputs in training; one loss can't be taken of them.
    names = [
        found for found in torchvision.models.list_models(module=torchvision.models) if found not in ("googlenet", "inception_v3")
    ]
    if name not in names:
        near = difflib.get_close_matches(name, ["small-cnn", *names], n=3) or ["small-cnn", "resnet18"]
        raise InvalidConfig(f"key 'model' has the value {name!r}, which is no model of torchvision's; near it: {', '.join(near)}")
    return Classifier(torchvision.models.get_model(name, weights=None, num_classes=classes), grey_to_colour=channels == 1)


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights as they are now, on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def gradient_norm(model: nn.Module) -> float:
    """The norm of all gradients that the model holds now; with several ranks, once they have been exchanged."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return float(nn.utils.get_total_norm(gradients))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    images: Images,
    *,
    classes: int,
    device: torch.device,
    batch: int,
    gang: Gang,
    mixed: AbstractContextManager[object] | None = None,
    loader_workers: int = 0,
) -> Scores:
    """Scores over all these images, each rank having looked at its share, `batch` at a time: the same on every rank.

    `model` is the bare one: ranks have unequal numbers of batches, so nothing may be exchanged in it.
    """
    model.eval()
    share = range(gang.rank, len(images), gang.size)
    index_lists = [list(share[at : at + batch]) for at in range(0, len(share), batch)]
    tally = Tally(classes)
    for inputs, labels in batches(images, index_lists, loader_workers=loader_workers):
        with mixed or nullcontext():
            logits = model(inputs.to(device, non_blocking=True))
        tally.add(logits.float().cpu().numpy(), labels.numpy())
        report()
    return tally.scores(gang)

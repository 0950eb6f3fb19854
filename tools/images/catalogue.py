"""The images that there are, what each is made of, and in which order they are built."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "tools/images/inside"
RUNTIME = "trainer_images/runtime"


class UnknownImage(ValueError):
    """A name that no image of ours has; the message names those that there are."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A command that shows that an image starts: how it must end, and a word of what it must say."""

    command: tuple[str, ...]
    code: int = 0
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Image:
    """`sources`: files and folders, relative to the repository's root, of which the image is made. `needs`: images it is built
    from. `variants`: whether it differs between CPU and CUDA. `python`: whether it has a virtual environment.
    """

    name: str
    folder: str
    sources: tuple[str, ...]
    needs: tuple[str, ...] = ()
    variants: bool = False
    python: bool = True
    trials: tuple[Trial, ...] = ()

    @property
    def containerfile(self) -> Path:
        return ROOT / self.folder / "Containerfile"


# Without the environment that the operator gives, each says which variable is missing.
_LAUNCHER = (
    Trial(command=("trainwright-launch", "--help"), says="recipe"),
    Trial(command=("trainwright-fetch",), code=64, says="TRAINWRIGHT_"),
)


def _imports(*modules: str) -> Trial:
    return Trial(command=("python", "-c", f"import {', '.join(modules)}"))


def _trainer(name: str, *more: str, library: str, needs: tuple[str, ...] = (), variants: bool = True) -> Image:
    folder = f"trainer_images/{name}"
    return Image(
        name=name,
        folder=folder,
        sources=(folder, RUNTIME, *more, INSIDE),
        needs=needs,
        variants=variants,
        trials=(*_LAUNCHER, _imports(library, f"trainwright_{name}")),
    )


def _server(name: str, *more: str, trials: tuple[Trial, ...], variants: bool = False) -> Image:
    folder = f"trainer_images/serving/{name}"
    return Image(name=name, folder=folder, sources=(folder, *more, INSIDE), variants=variants, trials=trials)


def _refuses(program: str) -> tuple[Trial, ...]:
    return (Trial(command=(program,), code=3, says="TRAINWRIGHT_MODEL_NAME is not set"),)


SLIM_TORCH = "trainer_images/torch/slim-cpu"
IMAGES: dict[str, Image] = {
    image.name: image
    for image in (
        Image(
            name="operator",
            folder="operator",
            sources=("operator", "pyproject.toml", "README.md", "LICENSE", INSIDE),
            trials=(Trial(command=("python", "-m", "trainwright.controller", "--help"), says="--leader-elect"),),
        ),
        Image(
            name="base",
            folder="trainer_images/base",
            sources=("trainer_images/base",),
            python=False,
            trials=(Trial(command=("python3", "-c", "import ssl, sqlite3, ctypes, zoneinfo; zoneinfo.ZoneInfo('UTC')")),),
        ),
        _trainer("sklearn", library="sklearn", variants=False),
        _trainer("torch", library="torch"),
        _server("gateway", trials=(Trial(command=("trainwright-gateway", "--help"), says="TRAINWRIGHT_DEPLOYMENT"),)),
        _server("publisher", RUNTIME, trials=(Trial(command=("trainwright-publisher", "--help"), says="verify"),)),
        _server("torchserve", RUNTIME, SLIM_TORCH, variants=True, trials=_refuses("trainwright-torchserve")),
        _server("sklearn-server", RUNTIME, trials=_refuses("trainwright-sklearn-server")),
        _trainer("tensorflow", library="tensorflow"),
        _trainer("jax", library="jax"),
        _trainer("horovod", SLIM_TORCH, library="horovod.torch", needs=("torch",)),
    )
}


def chosen(names: Sequence[str]) -> list[Image]:
    """The images of those names, and those that they are built from, in an order to build them in; all without names."""
    for name in names:
        if name not in IMAGES:
            raise UnknownImage(f"IMAGES names '{name}'; there are: {', '.join(IMAGES)}")
    wanted: dict[str, Image] = {}

    def take(asked: Iterable[str]) -> None:
        for name in asked:
            take(IMAGES[name].needs)
            wanted.setdefault(name, IMAGES[name])

    take(names or IMAGES)
    place = {name: number for number, name in enumerate(IMAGES)}
    sorter = graphlib.TopologicalSorter({name: image.needs for name, image in wanted.items()})
    sorter.prepare()
    order: list[Image] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        order += [wanted[name] for name in ready]
        sorter.done(*ready)
    return order

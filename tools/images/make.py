"""Making images: what is built, what is skipped, what is written beside an archive."""

from __future__ import annotations

import functools
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from images import bases, inputs, kept, network, trials
from images.archive import Archive
from images.catalogue import ROOT, Image
from images.contents import contents
from images.engines import Build, Engine
from trainwright import __version__

OUTPUT = ROOT / "build" / "images"
VARIANTS = ("cpu", "cuda")


class Unfit(RuntimeError):
    """An image was built, and holds what it must not; the message lists it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `make images` was told. `again`: build what is unchanged, too."""

    registry: str
    tag: str
    base: str = bases.BASE
    builder: str = ""
    variant: str = "cpu"
    push: bool = False
    again: bool = False

    def reference(self, image: Image) -> str:
        return f"{self.registry}/{image.name}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Made:
    """An image's note, build/images/NAME.json. Sizes in bytes; `seconds`: of its build; `digest`: of its manifest."""

    name: str
    reference: str
    key: str
    digest: str
    variant: str
    revision: str
    archive: int
    unpacked: int
    seconds: float
    save_seconds: float


class Maker:
    """Makes images one after the other, with one engine and one pair of bases."""

    def __init__(self, engine: Engine, options: Options, say: Callable[[str], None], output: Path = OUTPUT) -> None:
        self._engine, self._options, self._say, self._output = engine, options, say, output
        self._keys: dict[str, str] = {}
        self._built: list[str] = []

    @functools.cached_property
    def _base(self) -> bases.Base:
        return bases.base(self._engine, self._options.base, self._say)

    @functools.cached_property
    def _builder(self) -> bases.Base:
        standard = bases.DEBIAN if self._options.base == bases.DEBIAN else bases.BUILDER
        return bases.builder(self._engine, self._options.builder or standard, self._say)

    def make(self, images: Sequence[Image]) -> list[tuple[Made, bool]]:
        """Notes on all images, in order, and whether each was built now. Leaves no image in the engine's store but the bases."""
        self._output.mkdir(parents=True, exist_ok=True)
        done = []
        try:
            for image in images:
                self._keys[image.name] = key = self._key(image)
                known = self._known(image, key)
                made = known or self._build(image, key)
                if self._options.push:
                    self._have(image)
                    self._say(f"{image.name}: pushing {made.reference}")
                    self._engine.push(made.reference)
                done.append((made, known is None))
        finally:
            self._engine.remove(list(reversed(self._built)))
        return done

    def trial(self, images: Sequence[Image]) -> list[str]:
        """What of the images that were made does not start as it must."""
        found = []
        try:
            for image in images:
                if note(image.name, self._output) is None:
                    found.append(f"{image.name}: not built here yet; make images IMAGES={image.name}")
                    continue
                self._have(image)
                found += trials.faults(self._engine, self._options.reference(image), image, self._say)
        finally:
            self._engine.remove(list(reversed(self._built)))
        return found

    def _key(self, image: Image) -> str:
        options = self._options
        arguments = {
            "reference": options.reference(image),
            "version": __version__,
            "base": f"{self._base.reference} {self._base.identity}",
            "builder": self._builder.identity,
            **({"variant": options.variant} if image.variants else {}),
        }
        return inputs.key(image, arguments, {name: self._keys[name] for name in image.needs})

    def _known(self, image: Image, key: str) -> Made | None:
        """The note of a build with that key, here or kept from another checkout; None where it must be built."""
        if self._options.again:
            return None
        if (known := note(image.name, self._output)) and known.key == key:
            return known
        if (known := note(image.name, kept.folder())) and known.key == key:
            kept.fetch(image.name, self._output)
            return known
        return None

    def _arguments(self, image: Image, source: inputs.Source) -> dict[str, str]:
        given = {
            "BASE": self._base.reference,
            "BUILDER": self._builder.reference,
            "VARIANT": self._options.variant,
            "VERSION": __version__,
            "REVISION": source.revision,
            "CREATED": datetime.fromtimestamp(source.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "SOURCE_DATE_EPOCH": str(source.epoch),
            **{name.upper(): f"{self._options.registry}/{name}:{self._options.tag}" for name in image.needs},
        }
        taken = set(re.findall(r"^ARG (\w+)", image.containerfile.read_text(), re.MULTILINE))
        return {name: value for name, value in given.items() if name in taken}

    def _build(self, image: Image, key: str) -> Made:
        for name in image.needs:
            self._have_named(name)
        reference, source = self._options.reference(image), inputs.source(image)
        self._say(f"{image.name}: building {reference}")
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            self._engine.build(
                Build(
                    reference=reference,
                    containerfile=image.containerfile,
                    arguments=self._arguments(image, source),
                    epoch=source.epoch,
                    secrets=network.secrets(Path(folder)),
                )
            )
        self._built.append(reference)
        built = time.monotonic()
        archive = self._output / f"{image.name}.tar"
        part = archive.with_suffix(".tar.part")
        part.unlink(missing_ok=True)
        listed = self._output / f"{image.name}.cdx.json"
        for old in (archive, listed, self._note(image.name)):  # maybe links to what is kept: replaced, never written into
            old.unlink(missing_ok=True)
        self._engine.save(reference, part)
        saved = time.monotonic()
        opened = Archive(part)
        found = contents(opened, image.name, python=image.python)
        if found.faults:
            part.unlink()
            shown = "\n  ".join(found.faults[:20])
            raise Unfit(f"{image.name} holds what it must not ({len(found.faults)}):\n  {shown}")
        listed.write_text(json.dumps(found.sbom, indent=1, sort_keys=True) + "\n")
        part.rename(archive)
        made = Made(
            name=image.name,
            reference=reference,
            key=key,
            digest=opened.manifest_digest,
            variant=self._options.variant if image.variants else "any",
            revision=source.revision,
            archive=archive.stat().st_size,
            unpacked=found.unpacked,
            seconds=round(built - begun, 1),
            save_seconds=round(saved - built, 1),
        )
        self._note(image.name).write_text(json.dumps(asdict(made), indent=1) + "\n")
        if not self._options.again:
            kept.keep(image.name, self._output)
        return made

    def _have(self, image: Image) -> None:
        self._have_named(image.name)

    def _have_named(self, name: str) -> None:
        """The image in the engine's store: an unchanged one lies in its archive only."""
        reference = f"{self._options.registry}/{name}:{self._options.tag}"
        if self._engine.identity(reference) is None:
            self._say(f"{name}: read from its archive")
            self._engine.load(reference, self._output / f"{name}.tar")
            self._built.append(reference)

    def _note(self, name: str) -> Path:
        return self._output / f"{name}.json"


def note(name: str, output: Path = OUTPUT) -> Made | None:
    """What was noted when the image was made; None if it wasn't, or its archive is gone."""
    path = output / f"{name}.json"
    if not path.exists() or not (output / f"{name}.tar").exists():
        return None
    try:
        return Made(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        return None

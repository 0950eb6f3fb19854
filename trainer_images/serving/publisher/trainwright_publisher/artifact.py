"""What an artifact says of itself, read strictly: the manifest is somebody else's file until it is verified."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from trainwright_publisher.refusal import Reason, Refused
from trainwright_publisher.source import Source
from trainwright_runtime.artifact import SAMPLES
from trainwright_runtime.sealed import Damaged, parse_seal
from trainwright_runtime.serving.record import Server, digest_of

MAX_METRICS = 32
MAX_SAMPLES_BYTES = 32 << 20
SHOWN_FILES = 6


class _Facts(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class File(_Facts):
    """One file that the manifest names."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Tensor(_Facts):
    """One input or output of the model."""

    name: Annotated[str, Field(min_length=1)]
    dtype: str
    shape: tuple[int, ...]


class Signature(_Facts):
    """What the model takes and answers."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...] = ()


class Data(_Facts):
    """What it was trained and tested on."""

    sha256: str | None = None
    test: str | None = None


class Manifest(_Facts):
    """`manifest.json` as far as serving needs it; docs/contract.md has all of it."""

    framework: str
    recipe: str
    job: str = ""
    uid: str = ""
    step: int = 0
    time: FiniteFloat = 0.0
    signature: Signature
    metrics: Mapping[str, FiniteFloat] = {}
    data: Data = Data()
    files: Mapping[str, File]


class Artifact:
    """A manifest, and the digest by which the artifact is known. Its files are not read yet."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.content = source.manifest()
        self.digest = digest_of(self.content)
        try:
            self._seal = parse_seal(self.content)
            self.manifest = Manifest.model_validate_json(self.content)
        except Damaged as fault:
            raise Refused(Reason.DAMAGED, str(fault)) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise Refused(Reason.DAMAGED, f"manifest.json: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def facts_of(self, name: str) -> dict[str, Any]:
        """sha256 and bytes of one file, as the manifest has them."""
        return self.manifest.files[name].model_dump()

    def verify(self) -> None:
        """Read every file."""
        for name in self.manifest.files:
            self.source.copy(name, self.facts_of(name), None)

    def samples(self) -> int:
        """How many samples there are to check a loader by; refused when they are of other tensors than the model's."""
        if SAMPLES not in self.manifest.files:
            return 0
        content = self.source.read(SAMPLES, MAX_SAMPLES_BYTES)
        try:
            found: Any = json.loads(content or b"")
            inputs, outputs = found["inputs"], found["outputs"]
            rows = {len(values) for values in (*inputs.values(), *outputs.values())}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Refused(Reason.DAMAGED, f"{SAMPLES} has no inputs and outputs by name of tensor") from None
        signature = self.manifest.signature
        for kind, given, known in (("inputs", inputs, signature.inputs), ("outputs", outputs, signature.outputs)):
            if set(given) != (names := {tensor.name for tensor in known}):
                raise Refused(Reason.DAMAGED, f"{SAMPLES} has {kind} {sorted(given)}, and the signature {sorted(names)}")
        if len(rows) != 1:
            raise Refused(Reason.DAMAGED, f"{SAMPLES} has tensors of different numbers of rows")
        return rows.pop()

    def metrics(self) -> dict[str, float]:
        """The first of them, as many as a termination message has room for."""
        return {name: value for name, value in list(self.manifest.metrics.items())[:MAX_METRICS] if math.isfinite(value)}

    def loaded_by(self, server: Server) -> list[str]:
        """The files of the artifact that the server's version is made of; refused when it can load nothing of what is there."""
        files = self.manifest.files
        saved_model = [name for name in files if name.startswith("saved_model/")]
        there = {
            "tfserving": saved_model if "saved_model/saved_model.pb" in files else [],
            "torchserve": [name for name in files if name == "model.pt2"],
            # skops first: it runs no code as it is loaded.
            "sklearn": [name for name in ("model.skops", "model.joblib") if name in files][:1],
        }
        if not there[server]:
            raise Refused(Reason.WRONG_SERVER, self._why_not(server, [other for other, names in there.items() if names]))
        return there[server]

    def _why_not(self, server: Server, others: list[str]) -> str:
        wanted = {
            "tfserving": "saved_model/ (recipes of tensorflow)",
            "torchserve": "model.pt2 (recipes of torch and horovod)",
            "sklearn": "model.skops or model.joblib (recipes of sklearn)",
        }
        names = sorted(name for name in self.manifest.files if name.startswith("model") or name.startswith("saved_model/"))
        shown = ", ".join(names[:SHOWN_FILES]) or "no model"
        would = f"; server {' or '.join(others)} takes it" if others else "; no server takes it"
        return (
            f"server {server} takes an artifact with {wanted[server]}; this one, of {self.manifest.framework}, has {shown}{would}"
        )

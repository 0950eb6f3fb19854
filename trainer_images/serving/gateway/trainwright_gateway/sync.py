"""What the operator tells the gateway in `PUT /sync`, typed; and what is wrong with it, in words."""

from __future__ import annotations

import collections
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Address = Annotated[IPvAnyAddress, PlainSerializer(str)]
Positive = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"


class Role(StrEnum):
    """What a version is to its deployment."""

    LIVE = "live"
    CANDIDATE = "candidate"
    PREVIOUS = "previous"
    KEPT = "kept"


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class Version(_Part):
    """One version: who it is, where it runs, and its share of requests. `window`: which measures it is counted in."""

    version: Annotated[int, Field(ge=1, le=2**53, strict=True)]
    role: Role
    weight: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] = 0
    digest: Digest
    record: Digest
    addresses: tuple[Address, ...] = ()
    window: str = ""

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(str, self.addresses)))


class Check(_Part):
    """How a freshly loaded version is looked at. `tolerance` is relative to the largest magnitude of an output."""

    warmup: Annotated[int, Field(ge=0, le=10_000)] = 20
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.001
    timeout_seconds: Positive = 30
    smoke: bool = True


class Sticky(_Part):
    """A header by whose value a client keeps its version."""

    header: Annotated[str, StringConstraints(pattern=HEADER)]


class Monitoring(_Part):
    """What is watched of the live version's inputs and outputs."""

    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    window_seconds: Positive = 3600
    min_samples: Annotated[int, Field(ge=1)] = 200
    top_features: Annotated[int, Field(ge=1, le=100)] = 10
    label_window_seconds: Positive = 86400


class Sync(_Part):
    """A whole request: what isn't named in it is no more."""

    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")]
    versions: tuple[Version, ...]
    check: Check = Check()
    sticky: Sticky | None = None
    timeout_seconds: Positive = 30
    retries: Annotated[int, Field(ge=0, le=20)] = 2
    monitoring: Monitoring = Monitoring()
    peers: tuple[Address, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        numbers = collections.Counter(one.version for one in self.versions)
        if twice := sorted(number for number, count in numbers.items() if count > 1):
            raise ValueError(f"versions: version {twice[0]} is named {numbers[twice[0]]} times; it may be named once")
        roles = collections.Counter(one.role for one in self.versions)
        for role in (Role.LIVE, Role.CANDIDATE):
            if roles[role] > 1:
                raise ValueError(f"versions: {roles[role]} have the role '{role}'; one at most may have it")
        return self

    @property
    def live(self) -> Version | None:
        return next((one for one in self.versions if one.role is Role.LIVE), None)


class BadSync(ValueError):
    """`errors` is one line a field: its name, what is wrong, what was given."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


def parse(content: bytes | str) -> Sync:
    """Raises BadSync."""
    try:
        return Sync.model_validate_json(content)
    except ValidationError as error:
        raise BadSync([_line(one) for one in error.errors(include_url=False)]) from None


def _line(error: Any) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    shown = f", not {given!r:.100}" if isinstance(given, str | int | float | bool | None) and error["type"] != "missing" else ""
    return f"{place}: {message}{shown}" if place else message

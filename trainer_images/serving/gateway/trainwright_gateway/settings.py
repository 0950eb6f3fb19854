"""What the gateway is told by its environment, which the operator writes (docs/decisions/008-serving.md)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVERS = ("tfserving", "torchserve", "sklearn")
MAX_BODY = 64 * 2**20
DRAIN_SECONDS = 2.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadSettings(ValueError):
    """The environment lacks something or has it wrong; the message names the variable, its value and what is accepted."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`token_sha256` is None where /sync is open; `max_body` in bytes; `drain` is how long a gateway that ends still takes
    requests, in seconds, for those who have not heard yet that it isn't ready any more.
    """

    deployment: str
    namespace: str
    server: str
    models: Path
    routes: Path | None
    address: str
    name: str
    token_sha256: str | None = None
    max_body: int = MAX_BODY
    drain: float = DRAIN_SECONDS


def read(environment: Mapping[str, str]) -> Settings:
    """Raises BadSettings."""
    server = _needed(environment, "TRAINWRIGHT_SERVER")
    if server not in SERVERS:
        raise BadSettings(f"TRAINWRIGHT_SERVER is {server!r}; it must be one of {', '.join(SERVERS)}")
    token = environment.get("TRAINWRIGHT_ADMIN_TOKEN_SHA256") or None
    if token is not None and not _SHA256.fullmatch(token):
        raise BadSettings("TRAINWRIGHT_ADMIN_TOKEN_SHA256 must be the sha256 of the token: 64 digits of 0-9a-f")
    address = _needed(environment, "TRAINWRIGHT_POD_IP")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise BadSettings(f"TRAINWRIGHT_POD_IP is {address!r}; it must be an IP address") from None
    routes = environment.get("TRAINWRIGHT_ROUTES")
    return Settings(
        deployment=_needed(environment, "TRAINWRIGHT_DEPLOYMENT"),
        namespace=_needed(environment, "TRAINWRIGHT_NAMESPACE"),
        server=server,
        models=Path(_needed(environment, "TRAINWRIGHT_MODELS")),
        routes=Path(routes) if routes else None,
        address=address,
        name=_needed(environment, "TRAINWRIGHT_POD_NAME"),
        token_sha256=token,
        max_body=int(_number(environment, "TRAINWRIGHT_MAX_BODY_BYTES", MAX_BODY, least=1)),
        drain=_number(environment, "TRAINWRIGHT_DRAIN_SECONDS", DRAIN_SECONDS, least=0),
    )


def _needed(environment: Mapping[str, str], name: str) -> str:
    if not (value := environment.get(name)):
        raise BadSettings(f"{name} is not set")
    return value


def _number(environment: Mapping[str, str], name: str, default: float, *, least: float) -> float:
    if not (text := environment.get(name)):
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        raise BadSettings(f"{name} is {text!r}; it must be a number of at least {least:g}")
    return value

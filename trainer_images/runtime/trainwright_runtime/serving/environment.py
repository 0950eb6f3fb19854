"""Who a server is: the environment that the operator sets on every server's pod (docs/decisions/008-serving.md)."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

CLIENTS_PORT = 8080
METRICS_PORT = 8082


class InvalidServerEnvironment(Exception):
    """A variable is missing or wrong; the message names it, its value, and what is accepted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerEnvironment:
    """`record`: sha256 of the version's record, as `sha256:…`; `batch_delay`: milliseconds that a batch waits to be full."""

    model: str
    models: Path
    version: int
    record: str
    address: str = "0.0.0.0"  # noqa: S104 - a pod's only address is its own
    batch_size: int = 1
    batch_delay: int = 0
    workers: int = 1

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> ServerEnvironment:
        """Raises InvalidServerEnvironment."""
        found = os.environ if variables is None else variables
        address = found.get("TRAINWRIGHT_POD_IP", "") or cls.address
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidServerEnvironment(f"TRAINWRIGHT_POD_IP is {address!r}; accepted: an IP address") from None
        return cls(
            model=_word(found, "TRAINWRIGHT_MODEL_NAME"),
            models=Path(_word(found, "TRAINWRIGHT_MODELS")),
            version=_number(found, "TRAINWRIGHT_VERSION", least=1),
            record=_word(found, "TRAINWRIGHT_RECORD"),
            address=address,
            batch_size=_number(found, "TRAINWRIGHT_BATCH_SIZE", least=1, default=cls.batch_size),
            batch_delay=_number(found, "TRAINWRIGHT_BATCH_DELAY_MS", least=0, default=cls.batch_delay),
            workers=_number(found, "TRAINWRIGHT_SERVER_WORKERS", least=1, default=cls.workers),
        )


def _word(found: Mapping[str, str], name: str) -> str:
    if not (value := found.get(name, "")):
        raise InvalidServerEnvironment(f"{name} is not set")
    return value


def _number(found: Mapping[str, str], name: str, *, least: int, default: int | None = None) -> int:
    value = found.get(name, "") or (str(default) if default is not None else "")
    if not value.isascii() or not value.isdigit() or int(value) < least:
        raise InvalidServerEnvironment(f"{name} is {value!r}; accepted: a whole number, at least {least}")
    return int(value)

"""What every typed model of the API shares: camelCase on the wire, unknown fields refused, values never changed in place."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

# Ours are written with some of these; what others write, on nodes and pods, may have any.
_FACTORS = {
    **{unit: Decimal(10) ** power for unit, power in {"": 0, "n": -9, "u": -6, "m": -3}.items()},
    **{unit: Decimal(1000) ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024) ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([-+]?[0-9]{1,3})|([a-zA-Z]*))")


class Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def wire(self) -> dict[str, Any]:
        """The model as the API writes it, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _text(value: Any) -> Any:
    """YAML reads `cpu: 4` as a number; Kubernetes takes both."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(pattern=QUANTITY_PATTERN, max_length=32),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY_PATTERN,
            "maxLength": 32,
        }
    ),
]
"""An amount with a unit, as Kubernetes writes it: `4`, `500m`, `16Gi`."""

Name = Annotated[str, StringConstraints(pattern=DNS_LABEL_PATTERN, min_length=1, max_length=63)]
ExtendedResource = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", min_length=3, max_length=253
    ),
]
"""A resource that a device plugin offers, as `example.com/gpu`."""
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]


def amount(quantity: str) -> float:
    """The plain number behind a quantity (cores, bytes). Raises ValueError for anything that is not one."""
    return float(exact(quantity))


@lru_cache(maxsize=4096)
def exact(quantity: str) -> Decimal:
    """As `amount`, without rounding."""
    match = _AMOUNT.fullmatch(quantity)
    if match is None or (match.group(3) or "") not in _FACTORS:
        raise ValueError(f"{quantity!r} is not a quantity; accepted are numbers such as 4, 500m or 16Gi")
    number, exponent, unit = match.groups()
    return Decimal(number).scaleb(int(exponent)) if exponent else Decimal(number) * _FACTORS[unit or ""]


def whole_cores(quantity: str) -> int:
    """How many threads a CPU quantity feeds: rounded down, at least one."""
    return max(1, math.floor(amount(quantity)))

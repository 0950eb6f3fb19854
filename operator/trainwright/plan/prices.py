"""What resources cost, as whoever installs the operator says, and what a job costs an hour by that."""

from __future__ import annotations

from typing import Annotated

import yaml
from pydantic import Field, StringConstraints, ValidationError

from trainwright.api.model import Model, amount
from trainwright.api.spec import TrainingJobSpec

GIB = 2.0**30
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PerHour(Model):
    """Prices of one hour."""

    gpu: Price = Field(default=0.0, description="Of a GPU.")
    cpu: Price = Field(default=0.0, description="Of a core.")
    memory_gib: Price = Field(default=0.0, alias="memoryGiB", description="Of a GiB of memory.")

    def of(self, spec: TrainingJobSpec) -> float:
        """What all workers of a job cost in an hour that they hold their resources."""
        wanted = spec.resources
        cores = amount(wanted.cpu) if wanted.cpu else 0.0
        memory = amount(wanted.memory) / GIB if wanted.memory else 0.0
        return spec.workers * (wanted.gpus * self.gpu + cores * self.cpu + memory * self.memory_gib)


class NodePrices(PerHour):
    """Prices of some nodes."""

    node_selector: dict[str, str] = Field(min_length=1, description="Labels of the nodes; a job that asks for them pays this.")


class Prices(PerHour):
    """The price table. `nodes`: the first whose labels are all among the job's `placement.nodeSelector` counts."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field(description="Three letters, such as EUR.")
    nodes: list[NodePrices] = Field(default_factory=list, description="Nodes with prices of their own.")

    def hourly(self, spec: TrainingJobSpec) -> float:
        """What a job costs in an hour that its workers hold their resources."""
        asked = (spec.placement.node_selector or {}).items()
        special = next((one for one in self.nodes if one.node_selector.items() <= asked), self)
        return special.of(spec)


def read_prices(text: str) -> Prices:
    """The table that a YAML text holds. Raises ValueError with the field and what is wrong with it."""
    try:
        return Prices.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(f"is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the table"
        raise ValueError(f"{field}: {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from None

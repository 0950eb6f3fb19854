"""What the operator must know of a model server to run it; what it says and is asked is the gateway's business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from trainwright.api.deployment_spec import Batching, ServerName

CONFIG_DIR = "/etc/serving"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What one Deployment of servers is to serve. `version` and `record` (its sha256) are None where it serves all versions."""

    model: str
    models: str
    batching: Batching
    version: int | None = None
    record: str | None = None


class Server(Protocol):
    """One kind of model server. Ports are those of docs/decisions/008-serving.md."""

    name: ServerName
    # In the operator's catalogue, or a whole reference where it isn't ours.
    image: str
    a_version_each: bool
    port: int
    metrics_port: int
    metrics_path: str

    def command(self, launch: Launch) -> list[str]:
        """The program and its arguments."""
        ...

    def environment(self, launch: Launch) -> dict[str, str]:
        """Variables beside the ones that every server gets."""
        ...

    def ready_path(self, model: str) -> str:
        """What answers 200 as soon as a model can be asked."""
        ...

    def files(self, launch: Launch) -> dict[str, str]:
        """Files that it reads from `CONFIG_DIR`."""
        ...


def http_get(path: str, port: int) -> dict[str, Any]:
    """A probe's action."""
    return {"httpGet": {"path": path, "port": port}}

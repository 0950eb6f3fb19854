"""The images that the operator chooses when a job or a deployment names none, each by one name."""

from __future__ import annotations

from trainwright.api.deployment_spec import ServerName
from trainwright.api.spec import FrameworkName
from trainwright.frameworks import framework
from trainwright.plan.types import Settings
from trainwright.servers import server

GATEWAY = "gateway"
PUBLISHER = "publisher"
FETCH = "sklearn"
"""Brings data into the workspace of a job whose own image can't."""


def names() -> tuple[str, ...]:
    """Every name of the catalogue, in order."""
    trainers = {framework(name).image for name in FrameworkName}
    servers = {_server_name(name) for name in ServerName}
    return tuple(sorted({*trainers, *servers, GATEWAY, PUBLISHER, FETCH}))


def server_image(name: ServerName, settings: Settings) -> str:
    """The image of a model server; one that isn't ours has its own reference and is overridden by the server's name."""
    own = server(name).image
    return settings.images.get(name.value, own) if "/" in own else settings.image(own)


def _server_name(name: ServerName) -> str:
    own = server(name).image
    return name.value if "/" in own else own

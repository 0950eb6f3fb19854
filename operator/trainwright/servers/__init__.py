"""The model servers that there are."""

from __future__ import annotations

from trainwright.api.deployment_spec import ServerName
from trainwright.servers.base import CONFIG_DIR, Launch, Server
from trainwright.servers.sklearn import SklearnServer
from trainwright.servers.tfserving import TensorFlowServing
from trainwright.servers.torchserve import TorchServe

_SERVERS: dict[ServerName, Server] = {one.name: one for one in (TensorFlowServing(), TorchServe(), SklearnServer())}


def server(name: ServerName) -> Server:
    """The server of that name."""
    return _SERVERS[name]


__all__ = ["CONFIG_DIR", "Launch", "Server", "server"]

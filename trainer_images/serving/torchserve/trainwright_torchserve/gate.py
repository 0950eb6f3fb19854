"""What listens on the pod's address: it lets clients through to TorchServe once the model answers, and not before.

TorchServe itself says that it is healthy from the moment at which its workers are started, long before they have loaded
anything. Bytes are passed on as they are; what is between is a socket that no other process can reach.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

BUFFERED_BYTES = 1 << 20


class Gate:
    """Connections from clients, each with one of its own to TorchServe's socket."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self.open_connections: set[_Client] = set()

    async def open(self, address: str, port: int) -> None:
        """Listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self, self._target), address, port, backlog=1024)

    @property
    def waiting(self) -> int:
        """Connections whose client has spoken last: those that wait for an answer."""
        return sum(connection.waits for connection in self.open_connections)

    def close(self) -> None:
        """Take no new connections, and close those that wait for nothing."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.open_connections):
            connection.close_when_answered()


class _Client(asyncio.Protocol):
    """The client's side of a connection."""

    def __init__(self, gate: Gate, target: str) -> None:
        self._gate = gate
        self._target = target
        self._upstream: _Upstream | None = None
        self._early = bytearray()
        self._leaving = False
        self.waits = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFERED_BYTES)
        self._gate.open_connections.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, upstream = await asyncio.get_running_loop().create_unix_connection(lambda: _Upstream(self), self._target)
        except OSError:
            self.transport.abort()
            return
        self._upstream = upstream
        upstream.transport.write(bytes(self._early))
        if self.transport.is_closing():
            upstream.transport.close()

    def data_received(self, data: bytes) -> None:
        self.waits = True
        if self._upstream is None:
            self._early += data
            if len(self._early) > BUFFERED_BYTES:
                self.transport.pause_reading()
        else:
            self._upstream.transport.write(data)

    def answered(self, data: bytes) -> None:
        """Bytes from TorchServe."""
        self.waits = False
        self.transport.write(data)
        if self._leaving:
            self.transport.close()

    def close_when_answered(self) -> None:
        if self.waits:
            self._leaving = True
        else:
            self.transport.close()

    def connected(self) -> None:
        self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._gate.open_connections.discard(self)
        self.waits = False
        if self._upstream is not None:
            self._upstream.transport.close()


class _Upstream(asyncio.Protocol):
    """TorchServe's side of a connection."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFERED_BYTES)
        self._client.connected()

    def data_received(self, data: bytes) -> None:
        self._client.answered(data)

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._client.transport.close()

"""Is this pod able to train? Asked before the ranks start, and answered in a sentence that names what is wrong.

Worker 0's port is opened by its rank 0, which takes the seconds that a framework needs to load. So the ranks of the other
workers are started at once, and load meanwhile; a `PeerWatch` beside them finds out whether worker 0 ever answers.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

from trainwright_runtime.environment import RankEnvironment

RETRY_SECONDS = 0.25
CONNECT_SECONDS = 2.0


class PreflightFailed(Exception):
    """The pod can't train; the message says why."""


def check_pod(environment: RankEnvironment, *, deadline_seconds: float) -> None:
    """Check what can be checked before the ranks start; raises PreflightFailed."""
    if environment.workspace is not None:
        _check_writable(environment.workspace)
    if environment.workers > 1:
        _check_resolves(environment.master_addr, deadline_seconds)


def _check_writable(workspace: Path) -> None:
    probe = workspace / f".preflight-{uuid.uuid4().hex[:8]}"
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        with probe.open("xb") as stream:
            stream.write(b"trainwright")
            stream.flush()
            os.fsync(stream.fileno())
        probe.unlink()
    except OSError as error:
        raise PreflightFailed(f"workspace {workspace} is not writable: {error.strerror}") from None


def _check_resolves(name: str, deadline_seconds: float) -> None:
    # The address of a pod appears in DNS a moment after the pod starts, and the gang starts all at once.
    began = time.monotonic()
    while True:
        try:
            socket.getaddrinfo(name, None)
        except socket.gaierror as error:
            if time.monotonic() - began >= deadline_seconds:
                raise PreflightFailed(
                    f"worker 0's name {name!r} does not resolve after {deadline_seconds:g} s: {error.strerror}"
                ) from None
        else:
            return
        time.sleep(RETRY_SECONDS)


class PeerWatch(threading.Thread):
    """Tries worker 0's port until it answers, and calls `on_silence` with a verdict if it hasn't by the deadline."""

    def __init__(self, environment: RankEnvironment, *, deadline_seconds: float, on_silence: Callable[[str], None]) -> None:
        super().__init__(name="trainwright-peer-watch", daemon=True)
        self._address = (environment.master_addr, environment.master_port)
        self._deadline_seconds = deadline_seconds
        self._on_silence = on_silence

    def run(self) -> None:
        began = time.monotonic()
        last: OSError | None = None
        while time.monotonic() - began < self._deadline_seconds:
            try:
                socket.create_connection(self._address, timeout=CONNECT_SECONDS).close()
            except OSError as error:
                last = error
                time.sleep(RETRY_SECONDS)
            else:
                return
        host, port = self._address
        self._on_silence(f"worker 0 ({host}, port {port}) does not answer after {self._deadline_seconds:g} s: {last}")


def interface_of(address: str) -> str | None:
    """The network interface that an address of this pod belongs to.

    Gloo otherwise goes by what the host's name resolves to, which in many pods is nothing, or loopback.
    """
    wanted = ipaddress.ip_address(address)
    for name, addresses in psutil.net_if_addrs().items():
        for found in addresses:
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.netmask:
                network = ipaddress.ip_network(f"{found.address.split('%')[0]}/{_prefix(found.netmask)}", strict=False)
                if found.address == address or (wanted.is_loopback and wanted in network):
                    return name
    return None


def _prefix(netmask: str) -> int:
    return int(ipaddress.ip_address(netmask)).bit_count()

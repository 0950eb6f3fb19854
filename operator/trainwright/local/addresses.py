"""Addresses of pods out of 127.0.0.0/8, and the names that stand for them: there is no DNS here, so names in environment
values are replaced by addresses before a process starts.
"""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterable
from typing import Any


def subnet(seed: str, node: int = 0) -> str:
    """`127.x.y` for a node of a twin: different twins get different ones, but for the odd collision in 50,000."""
    digest = hashlib.sha256(seed.encode()).digest()
    return f"127.{32 + digest[0] % 200}.{(digest[1] + node) % 256}"


def free_port(host: str, *, wanted: int = 0) -> int:
    """A port that nobody listens on at this moment: the wanted one if that is so."""
    with socket.socket() as chosen:
        if wanted:
            # What is left of the last owner's connections doesn't keep a listener out.
            chosen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            chosen.bind((host, wanted))
        except OSError:
            if not wanted:
                raise
            return free_port(host)
        port: int = chosen.getsockname()[1]
    return port


class Addresses:
    """Hands out addresses of one subnet in turn, so that a port in TIME_WAIT is not met again at once."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._next = 2
        self._owners: dict[str, str] = {}

    def take(self, owner: str) -> str:
        """The owner's address, a new one if it has none. Raises RuntimeError when all 253 are taken."""
        if owner not in self._owners:
            taken = set(self._owners.values())
            for _ in range(253):
                address = f"{self._prefix}.{self._next}"
                self._next = self._next + 1 if self._next < 254 else 2
                if address not in taken:
                    self._owners[owner] = address
                    break
            else:
                raise RuntimeError(f"all addresses of {self._prefix}.0/24 are in use")
        return self._owners[owner]

    def keep(self, owner: str, address: str) -> None:
        """Leave the owner the address that it has had from an earlier agent."""
        if address.startswith(f"{self._prefix}.") and address not in self._owners.values():
            self._owners[owner] = address

    def release(self, owner: str) -> None:
        self._owners.pop(owner, None)


def peers_in(values: Iterable[str], pod: dict[str, Any]) -> set[str]:
    """Hostnames of the pod's own subdomain that occur in these values."""
    pattern = _pattern(pod)
    return {match.group("host") for value in values for match in pattern.finditer(value)} if pattern else set()


def with_addresses(value: str, pod: dict[str, Any], addresses: dict[str, str]) -> str:
    """The value with names of peers replaced by their addresses, given by hostname."""
    pattern = _pattern(pod)
    return pattern.sub(lambda match: addresses.get(match.group("host"), match.group(0)), value) if pattern else value


def _pattern(pod: dict[str, Any]) -> re.Pattern[str] | None:
    subdomain = pod["spec"].get("subdomain")
    if not subdomain:
        return None
    namespace = re.escape(pod["metadata"]["namespace"])
    suffix = rf"(?:\.{namespace}(?:\.svc(?:\.cluster\.local)?)?)?"
    return re.compile(rf"(?<![\w.-])(?P<host>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\.{re.escape(subdomain)}{suffix}(?![\w.-])")


def address_of(hostname: str, pod: dict[str, Any], all_pods: Iterable[dict[str, Any]]) -> str | None:
    """The address of the newest living pod with that hostname in the pod's subdomain; None as long as there is none."""
    candidates = [
        other
        for other in all_pods
        if other["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and other["spec"].get("subdomain") == pod["spec"].get("subdomain")
        and other["spec"].get("hostname") == hostname
        and "deletionTimestamp" not in other["metadata"]
        and other.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]
    newest = max(candidates, key=lambda other: other["metadata"]["creationTimestamp"], default=None)
    return newest.get("status", {}).get("podIP") if newest else None

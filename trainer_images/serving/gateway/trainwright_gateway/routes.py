"""Which version answers a request: by the weights, by a header's value, or as the request says itself."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
import random
from collections.abc import Callable, Mapping

from trainwright_gateway.sync import Role, Sync, Version


class Routes:
    """A sync as requests find it: made whole, then never changed, so that a request sees one state of things."""

    def __init__(self, sync: Sync) -> None:
        self.sync = sync
        self.model = sync.model
        self.live = sync.live
        self.versions: Mapping[int, Version] = {one.version: one for one in sync.versions}
        self.sticky = sync.sticky.header if sync.sticky else None
        weighted = [one for one in sync.versions if one.weight > 0]
        # Live for all is what a sync without any weight can only mean.
        self._weighted = weighted or ([self.live] if self.live else [])
        self._ends = list(itertools.accumulate((one.weight or 1.0) for one in self._weighted))

    @property
    def candidate(self) -> Version | None:
        return next((one for one in self.versions.values() if one.role is Role.CANDIDATE), None)

    def share(self, version: Version) -> float:
        """The version's share of requests, from 0 to 1."""
        return (version.weight or 1.0) / self._ends[-1] if version in self._weighted else 0.0

    def suggested(self, said: str | None) -> Version | None:
        """The version that somebody before us has split traffic to, if it still has a share of it: that may be old news."""
        return next((one for one in self._weighted if str(one.version) == said), None)

    def choose(self, who: str | None = None, draw: Callable[[], float] = random.random) -> Version | None:
        """None when there is no version to choose. `who` is the value of the sticky header."""
        if not self._weighted:
            return None
        if len(self._weighted) == 1:
            return self._weighted[0]
        if who is not None:
            return max(self._weighted, key=lambda one: one.weight / _distance(one.version, who))
        return self._weighted[bisect.bisect_right(self._ends, draw() * self._ends[-1], hi=len(self._ends) - 1)]


def _distance(version: int, who: str) -> float:
    """Of a client to a version: exponentially distributed, and the same in every gateway and at every time.

    The smallest distance divided by weight is each version's with the probability of its share (weighted rendezvous hashing).
    So a version whose share grows only wins clients, one whose share shrinks only loses some, and nobody else moves.
    """
    digest = hashlib.blake2b(f"{version}\0{who}".encode(), digest_size=8).digest()
    return -math.log((int.from_bytes(digest) + 1) / (2**64 + 1))

"""Kinds of a test's own control plane, taken away."""

from __future__ import annotations

import asyncio
import itertools

from support.twin import Kubectl
from support.waiting import eventually

WITHIN_SECONDS = 200.0


def without_kinds(kubectl: Kubectl, *names: str) -> None:
    """Delete definitions, those that there are, and return when they are gone, and nobody is told of them any more.

    The API server tries again ever later when it couldn't finish with one, on a busy machine minutes later; a change makes it try at once.
    """
    kubectl("delete", "crd", *names, "--ignore-not-found", "--wait=false")
    rounds = itertools.count()

    def gone() -> bool:
        left = kubectl("get", "crd", *names, "--ignore-not-found", "-o", "name").split()
        for one in left:
            kubectl.run("annotate", one, f"nudged={next(rounds)}", "--overwrite")
        served = set(kubectl("api-resources", "--cached=false", "-o", "name", check=False).split())
        return not left and served.isdisjoint(names)

    asyncio.run(eventually(gone, within=WITHIN_SECONDS, every=2, what=f"the end of {', '.join(names)}"))

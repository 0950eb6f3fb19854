"""Where the twin keeps things: state of one twin, the cache that all share, and the checkout that the sources come from."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT = "default"


class NotACheckout(RuntimeError):
    """The installed package does not lie in a checkout, so there are no tool modules and no trainer sources to use."""


def checkout() -> Path:
    """The repository's root. Raises `NotACheckout`."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "tools" / "kubernetes" / "go.mod").exists():
        raise NotACheckout(
            f"the local twin needs a checkout of Trainwright; {root} is none. Clone the repository and run `make setup`"
        )
    return root


def cache() -> Path:
    """Shared by all twins of this user: control-plane binaries and toolchains."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainwright"


def home() -> Path:
    """State of twins and of `trainwright run`."""
    return Path(os.environ.get("TRAINWRIGHT_HOME") or Path.home() / ".local" / "state" / "trainwright")


def state_of(name: str) -> Path:
    """Where the twin of that name keeps everything."""
    return home() / "twins" / name


def twins() -> list[str]:
    """Names of all twins that have state."""
    folder = home() / "twins"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []

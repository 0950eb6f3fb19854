"""All commands, imported for the sake of registering them."""

from __future__ import annotations

from trainwright.cli import jobs, run, twin

__all__ = ["jobs", "run", "twin"]

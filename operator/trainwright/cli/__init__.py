"""The command line. Each command is a thin face on what the folders below do; errors say what to do next."""

from __future__ import annotations

from trainwright.cli.main import main

__all__ = ["main"]

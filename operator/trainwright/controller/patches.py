"""Merge patches: what makes one status into another."""

from __future__ import annotations

from typing import Any


def difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The merge patch that makes `old` into `new`; empty when they are alike."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if below := difference(before, value):
                patch[key] = below
        elif before != value:
            patch[key] = value
    return patch

"""What every artifact has for who serves and watches the model, whatever the framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TESTED_DIGITS = 269
DIGITS_TEST_PART = "265f97fb579fd966de434cd246f68a5b066489ff1f60cde04a7f7ce0fef97c72"
"""The same for every framework: who has it was measured by these rows."""


def require_served_facts(path: Path, manifest: Mapping[str, Any], *, tested: int) -> dict[str, Any]:
    """Checks them, and returns the samples. `tested`: how many rows the test part has."""
    predictions = manifest["predictions"]
    if predictions["kind"] == "categorical":
        assert list(predictions["counts"]) == manifest["signature"]["classes"]
        assert sum(predictions["counts"].values()) == tested
    else:
        assert len(predictions["edges"]) == len(predictions["counts"]) + 1
        assert sum(predictions["counts"]) == tested
    assert len(manifest["data"]["test"]) == 64
    assert manifest["data"]["test"] != manifest["data"]["sha256"]
    assert (path / "samples.json").stat().st_size < 2_000_000
    samples: dict[str, Any] = json.loads((path / "samples.json").read_text())
    signature = manifest["signature"]
    assert set(samples["inputs"]) == {one["name"] for one in signature["inputs"]}
    assert set(samples["outputs"]) == {one["name"] for one in signature["outputs"]}
    assert {len(rows) for rows in (*samples["inputs"].values(), *samples["outputs"].values())} == {20}
    return samples


def require_digits(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The same, for a classifier of the built-in digits."""
    assert manifest["data"]["test"] == DIGITS_TEST_PART
    return require_served_facts(path, manifest, tested=TESTED_DIGITS)

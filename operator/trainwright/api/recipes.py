"""The recipes that ship in our own images, and what their configuration takes: wrong ones are refused before any pod starts.

`recipes.json` is generated from the recipes' own models (`make generate`). The trainer has the last word; here only what is
certain is refused: a recipe or a key that there is not, a value out of its bounds, a builtin data set of another kind.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from trainwright.api.errors import FieldError


@cache
def known() -> dict[str, Any]:
    """Every recipe by `<framework>/<recipe>`: the file it comes from, its builtin data sets, and the schema of its settings."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "recipes.json").read_text())
    return found


def problems(spec: dict[str, Any]) -> list[FieldError]:
    """What is wrong with a spec's recipe; nothing where an image of the user's may have recipes of its own."""
    recipe = spec.get("recipe")
    if not recipe or spec.get("image"):
        return []
    framework = spec["framework"]
    settings = known().get(f"{framework}/{recipe['name']}")
    if settings is None:
        there = sorted(name.partition("/")[2] for name in known() if name.startswith(f"{framework}/"))
        message = f"{recipe['name']!r} is not a recipe of {framework}; there are: {', '.join(there) or 'none'}"
        return [FieldError("spec.recipe.name", message)]
    found = list(_settings_problems(recipe.get("config") or {}, settings["settings"]))
    return found + list(_data_problems(spec.get("data") or [], recipe["name"], settings["builtins"]))


def _data_problems(data: list[dict[str, Any]], recipe: str, builtins: list[str]) -> Iterator[FieldError]:
    """Recipes train on the entry called train, else on the only one; what they don't look at is not refused."""
    for index, entry in enumerate(data):
        is_read = entry["name"] == "train" or len(data) == 1
        if is_read and "builtin" in entry and entry["builtin"] not in builtins:
            message = (
                f"{entry['builtin']!r} is not what {recipe} trains on; accepted: {', '.join(builtins) or 'data of yours only'}"
            )
            yield FieldError(f"spec.data[{index}].builtin", message)


def _settings_problems(config: dict[str, Any], schema: dict[str, Any]) -> Iterator[FieldError]:
    keys = schema["properties"]
    for key in config.keys() - keys.keys():
        close = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are: {', '.join(keys)}"
        yield FieldError(f"spec.recipe.config.{key}", f"is not a key of the recipe; {hint}")
    for error in sorted(Draft202012Validator(schema).iter_errors(config), key=lambda error: list(error.path)):
        # The trainer reads "1e-3" as the number that YAML meant it to be.
        if error.validator not in ("type", "anyOf"):
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.path)
            yield FieldError(f"spec.recipe.config{place}", _said(error.message))


def _said(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:299]}…"

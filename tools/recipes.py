"""The settings of every recipe as JSON, out of the recipes' own models: `make generate` writes api/recipes.json with it.

A recipe is a package of a trainer image with a module `config` that imports no framework; so this runs without any. The module
defines the recipe's one configuration, which may derive from one that recipes share.
Command line and operator read the file, and so know recipes where no trainer is installed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "trainer_images"
sys.path[:0] = [str(IMAGES / "runtime")]


def recipes() -> dict[str, Any]:
    """Schema of each recipe's configuration by `<image>/<recipe>`, with the file it comes from and its builtin data sets."""
    found = {}
    for source in sorted(IMAGES.glob("*/trainwright_*/*/config.py")):
        image, package, module = source.relative_to(IMAGES).parts[:3]
        if image == "runtime":
            continue
        sys.path.insert(0, str(IMAGES / image))
        config = importlib.import_module(f"{package}.{module}.config")
        model = _model(config)
        found[f"{image}/{module.replace('_', '-')}"] = {
            "source": str(source.relative_to(ROOT)),
            "builtins": list(model.BUILTINS),
            "settings": _settings(model),
        }
    return found


def _model(config: Any) -> Any:
    """The module's one configuration; other models that it defines are parts of that."""
    from trainwright_runtime.config import Config

    own = {
        name: one
        for name, one in inspect.getmembers(config, inspect.isclass)
        if issubclass(one, Config) and one.__module__ == config.__name__
    }
    parts = {name for one in own.values() for name in one.model_json_schema().get("$defs", {})}
    whole = [one for name, one in own.items() if name not in parts]
    if len(whole) != 1:
        raise SystemExit(f"{config.__name__} must define one configuration, and defines {', '.join(own) or 'none'}")
    return whole[0]


def _settings(model: Any) -> dict[str, Any]:
    schema: dict[str, Any] = model.model_json_schema()
    for node in schema["properties"].values():
        node.pop("title", None)
    return {key: schema[key] for key in ("$defs", "properties", "required") if key in schema}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(recipes(), indent=1, ensure_ascii=False) + "\n")

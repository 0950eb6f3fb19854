"""The API reference, generated from the typed models: `python -m trainwright.api.reference > docs/reference.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from trainwright.api.causes import CAUSE_MEANINGS, Cause
from trainwright.api.crd import COLUMNS, structural
from trainwright.api.names import API_VERSION
from trainwright.api.reasons import MEANINGS, Reason
from trainwright.api.rules import MUTABLE, RULES
from trainwright.api.spec import TrainingJobSpec
from trainwright.api.status import TrainingJobStatus


def reference() -> str:
    """The page, as Markdown."""
    parts = [
        "# API reference",
        "",
        "<!-- Generated from operator/trainwright/api by `make generate`. Do not edit. -->",
        "",
        f"`TrainingJob` (short `tj`), `{API_VERSION}`, namespaced. `kubectl explain tj --recursive` shows the same.",
        "",
        "## spec",
        "",
        f"Fixed once the job exists, except {', '.join(f'`{name}`' for name in MUTABLE)}.",
        "",
        *_table(structural(TrainingJobSpec), with_default=True),
        "",
        "### Rules",
        "",
        *(f"- `{rule.field}`: {rule.message}" for rule in RULES),
        "",
        "## status",
        "",
        *_table(structural(TrainingJobStatus), with_default=False),
        "",
        "### Reasons",
        "",
        "Of conditions, and of events on the job.",
        "",
        "| reason | meaning |",
        "|---|---|",
        *(f"| `{reason}` | {MEANINGS[reason]} |" for reason in Reason),
        "",
        "### Causes",
        "",
        "Of failures: in `status.restarts.last.cause`, in events, in `spec.failurePolicy.rules[].when.causes`.",
        "",
        "| cause | meaning |",
        "|---|---|",
        *(f"| `{cause}` | {CAUSE_MEANINGS[cause]} |" for cause in Cause),
        "",
        "## Columns of `kubectl get tj`",
        "",
        "| column | meaning |",
        "|---|---|",
        *(f"| {name}{' (`-o wide`)' if priority else ''} | {text} |" for name, _, _, text, priority in COLUMNS),
    ]
    return "\n".join(parts) + "\n"


def _table(schema: dict[str, Any], *, with_default: bool) -> Iterator[str]:
    yield "| field | type | default | meaning |" if with_default else "| field | type | meaning |"
    yield "|---|---|---|---|" if with_default else "|---|---|---|"
    for path, node, required in _fields(schema, ""):
        default = "required" if required else _shown(node.get("default"))
        cells = [f"`{path}`", _type(node), *([default] if with_default else []), node.get("description", "")]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _fields(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, node in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, node, name in schema.get("required", ())
        if "properties" in node:
            yield from _fields(node, f"{path}.")
        elif "properties" in node.get("items", {}):
            yield from _fields(node["items"], f"{path}[].")


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return " \\| ".join(node["enum"]).replace(" \\| ", ", ")
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if node.get("type") == "array":
        items = node["items"].get("type", "object")
        return f"list of {items}s"
    bounds = [f"{sign} {node[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in node]
    return " ".join([str(node.get("format") or node.get("type", "object")), *bounds])


def _shown(default: Any) -> str:
    return "" if default in (None, {}, []) else f"`{default}`"


def main() -> None:
    """Print the page."""
    sys.stdout.write(reference())


if __name__ == "__main__":
    main()

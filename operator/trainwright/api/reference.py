"""The API reference, generated from the typed models: `python -m trainwright.api.reference > docs/reference.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from trainwright.api.causes import CAUSE_MEANINGS, Cause
from trainwright.api.crd import structural
from trainwright.api.kinds import KINDS, Kind
from trainwright.api.names import API_VERSION
from trainwright.api.reasons import MEANINGS, Reason


def reference() -> str:
    """The page, as Markdown."""
    parts = [
        "# API reference",
        "",
        "<!-- Generated from operator/trainwright/api by `make generate`. Do not edit. -->",
        "",
        *(line for kind in KINDS.values() for line in _kind(kind)),
        "## Reasons",
        "",
        "Of conditions, and of events.",
        "",
        "| reason | meaning |",
        "|---|---|",
        *(f"| `{reason}` | {MEANINGS[reason]} |" for reason in Reason),
        "",
        "## Causes",
        "",
        "Of failures: in `status.restarts.last.cause`, in events, in `spec.failurePolicy.rules[].when.causes`.",
        "",
        "| cause | meaning |",
        "|---|---|",
        *(f"| `{cause}` | {CAUSE_MEANINGS[cause]} |" for cause in Cause),
    ]
    return "\n".join(parts) + "\n"


def _kind(kind: Kind) -> Iterator[str]:
    spec = structural(kind.spec)
    free = [name for name in spec["properties"] if name not in kind.fixed]
    few = len(free) < len(kind.fixed)
    yield f"## {kind.name}"
    yield ""
    yield f"{kind.description} Short `{kind.short}`, `{API_VERSION}`, namespaced."
    yield f"`kubectl explain {kind.short} --recursive` shows the same."
    yield ""
    yield f"### {kind.name} spec"
    yield ""
    listed = ", ".join(f"`{name}`" for name in (free if few else kind.fixed))
    below = "".join(f"; `{path}` is fixed too" for path in kind.fixed_below)
    yield (
        f"Fixed once the {kind.what} exists, except {listed}{below}." if few else f"Fixed once the {kind.what} exists: {listed}."
    )
    yield ""
    yield from _table(spec, with_default=True)
    yield ""
    yield f"### {kind.name} rules"
    yield ""
    yield from (f"- `{rule.field}`: {rule.message}" for rule in kind.rules)
    yield ""
    yield f"### {kind.name} status"
    yield ""
    yield from _table(structural(kind.status), with_default=False)
    yield ""
    yield f"### Columns of `kubectl get {kind.short}`"
    yield ""
    yield "| column | meaning |"
    yield "|---|---|"
    yield from (f"| {column.name}{' (`-o wide`)' if column.wide else ''} | {column.text} |" for column in kind.columns)
    yield ""


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

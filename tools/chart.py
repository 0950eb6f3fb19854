"""What is made of the chart: `manifests/install.yaml`, the page of its values, and the renderings that its tests compare with.

python tools/chart.py {values | install | golden FOLDER | prepare}; all but the first need Helm, which is built if it isn't there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainwright.local import binaries

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "trainwright"
NAMESPACE = "trainwright-system"
GATEWAY_SECRET = "trainwright-gateway-key"  # noqa: S105 - a name
ELIDED = {"CustomResourceDefinition": "spec", "PrometheusRule": "spec"}

INSTALL = f"""\
# Trainwright without Helm, made of the chart by `make generate` (docs/install.md). The operator starts once it has a key that
# gateways know it by:
#   kubectl -n {NAMESPACE} create secret generic {GATEWAY_SECRET} --from-literal=key="$(openssl rand -hex 32)"
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""


class HelmFailed(RuntimeError):
    """Helm said no; the message is what it said."""


def _say(text: str) -> None:
    sys.stderr.write(f"chart: {text}\n")


def _program() -> Path:
    return binaries.ensure(_say, (binaries.HELM,))[binaries.HELM.name]


def helm(*words: str | Path, env: dict[str, str] | None = None) -> str:
    """What Helm prints. It keeps nothing of its own between two calls. Raises `HelmFailed`."""
    program = _program()
    with tempfile.TemporaryDirectory(prefix="tw-helm-") as home:
        own = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [program, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, **own, **(env or {})},
        )
    if done.returncode != 0:
        raise HelmFailed(done.stderr.strip())
    return done.stdout


def template(*options: str | Path, release: str = "trainwright", namespace: str = NAMESPACE) -> str:
    """The chart's manifests, as Helm prints them."""
    return helm("template", release, CHART, "--namespace", namespace, *options)


def objects(manifests: str) -> list[dict[str, Any]]:
    """The objects of a text of manifests."""
    # PyYAML's own loader takes a second for our definitions.
    return [one for one in yaml.load_all(manifests, Loader=yaml.CSafeLoader) if one]


def golden(values: Path) -> str:
    """A rendering to compare with, without what is compared elsewhere: what is copied into the chart, and the random key."""
    made = objects(template("--values", values))
    for one in made:
        if field := ELIDED.get(one["kind"]):
            one[field] = "…"
        if one["kind"] == "ConfigMap" and "-dashboard-" in one["metadata"]["name"]:
            one["data"] = dict.fromkeys(one["data"], "…")
        if one["kind"] == "Secret":
            one["data"] = dict.fromkeys(one["data"], "…")
    made.sort(key=lambda one: (one["kind"], one["metadata"]["name"]))
    return "---\n".join(yaml.safe_dump(one, sort_keys=False, width=1000, allow_unicode=True) for one in made)


def install() -> str:
    """`manifests/install.yaml`: the default values, but for a key that can't be the same for everybody."""
    return INSTALL + template("--set", f"gateway.existingSecret={GATEWAY_SECRET}")


@dataclass(frozen=True)
class Value:
    """One value: where it is, what its comment says, its default, and what the schema takes."""

    path: str
    text: str
    default: Any
    accepted: str


def values() -> list[Value]:
    """All that values.yaml has, in its order. A mapping whose keys are the user's is one value; one of the chart's is many."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    schema = json.loads((CHART / "values.schema.json").read_text())
    root = yaml.compose("\n".join(lines))
    assert isinstance(root, yaml.MappingNode)  # noqa: S101 - for mypy
    return list(_values(root, schema, schema, lines, ()))


def _values(
    node: yaml.MappingNode, schema: dict[str, Any], root: dict[str, Any], lines: Sequence[str], above: tuple[str, ...]
) -> Iterator[Value]:
    for key, below in node.value:
        path = (*above, key.value)
        rule = _resolved(schema["properties"][key.value], root)
        if isinstance(below, yaml.MappingNode) and below.value and not _comment(lines, key.start_mark.line):
            yield from _values(below, rule, root, lines, path)
        else:
            default = yaml.safe_load(yaml.serialize(below))
            yield Value(".".join(path), _comment(lines, key.start_mark.line), default, _accepted(rule))


def _resolved(rule: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    name = rule.get("$ref", "").rpartition("/")[2]
    return root["definitions"][name] if name else rule


def _comment(lines: Sequence[str], line: int) -> str:
    """The comment right above a line."""
    found: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].strip().removeprefix("#").strip())
    return " ".join(found)


def _accepted(rule: dict[str, Any]) -> str:
    if "enum" in rule:
        return ", ".join(f"`{one}`" for one in rule["enum"])
    kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    bounds = [f"{word} {rule[name]}" for name, word in _BOUNDS.items() if name in rule]
    return " or ".join(kinds) + (f", {', '.join(bounds)}" if bounds else "")


_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}


def page() -> str:
    """docs/chart-values.md."""
    rows = [f"| `{one.path}` | {_shown(one.default)} | {one.accepted} | {_escaped(one.text)} |" for one in values()]
    return "\n".join(
        [
            "# Values of the chart",
            "",
            "Made of charts/trainwright/values.yaml and its schema by `make generate`. How to install: [install.md](install.md).",
            "",
            "| value | default | accepted | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _shown(default: Any) -> str:
    return f"`{json.dumps(default)}`" if default not in ("",) else ""


def _escaped(text: str) -> str:
    return re.sub(r"\|", r"\\|", text)


def main() -> None:
    match sys.argv[1:]:
        case ["prepare"]:
            _program()
        case ["values"]:
            sys.stdout.write(page())
        case ["install"]:
            sys.stdout.write(install())
        case ["golden", folder]:
            for one in sorted((CHART / "ci").glob("*-values.yaml")):
                (Path(folder) / one.name.replace("-values", "")).write_text(golden(one))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()

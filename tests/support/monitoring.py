"""A Prometheus beside a twin, asked what dashboards and rules ask it."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from typing import Any

import yaml

from support.twin import ROOT, RunningTwin
from trainwright.local import prometheus

FOLDER = ROOT / "manifests" / "monitoring"


def promtool(*words: str) -> str:
    result = subprocess.run(
        [prometheus.ensure(print)["promtool"], *words], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def query(twin: RunningTwin, expression: str, *, at: float | None = None) -> list[dict[str, Any]]:
    """What the twin's Prometheus answers."""
    return ask(str(twin.twin.prometheus_url), expression, at=at)


def ask(server: str, expression: str, *, at: float | None = None) -> list[dict[str, Any]]:
    """What an instant query finds, now or at a moment; numbers that are none don't count as found."""
    words = {"query": expression} | ({} if at is None else {"time": str(at)})
    with urllib.request.urlopen(f"{server}/api/v1/query?{urllib.parse.urlencode(words)}", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return [one for one in found if one["value"][1] != "NaN"]


def expressions(dashboard: str, **variables: str) -> list[str]:
    """All of a dashboard, as Grafana would ask them with these values of its variables."""
    content = json.loads((FOLDER / "dashboards" / f"{dashboard}.json").read_text())
    found = [target["expr"] for panel in content["panels"] for target in panel.get("targets", [])]
    for name, value in {**variables, "__rate_interval": "30s", "__range": "10m"}.items():
        found = [expression.replace(f"${name}", value) for expression in found]
    return found


def recording(*, serving: bool) -> list[dict[str, Any]]:
    """The recording rules about served models, or all others."""
    groups = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    chosen = [group for group in groups if group["name"].startswith("trainwright-serving") == serving]
    return [rule for group in chosen for rule in group["rules"] if "record" in rule]

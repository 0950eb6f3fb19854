"""`python -m monitoring.reference`: docs/metrics.md, from the tables that the metrics are declared in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from monitoring import tables
from monitoring.tables import Row

RULES = Path("manifests/monitoring/rules.yaml")
HEAD = """# Metrics

Made by `make generate` of the tables in the code. Units are in the names: seconds, bytes, ratio (0 to 1); `_total` only grows.
How they come to Prometheus, what to look at, and alerts: [monitoring.md](monitoring.md).
"""
OPERATOR = """
## The operator

`/metrics` of the operator.
"""
JOBS = """
## Jobs

`/metrics` of the operator, made of each job's status at every scrape: they outlive the job's pods and the operator's restarts,
and vanish with the job. At most 2,000 jobs have them, those that ended longest ago not being among these.
"""
DEPLOYMENTS = """
## Served models

`/metrics` of the operator, made of each ModelDeployment's status at every scrape, and gone with it.
"""
WORKERS = """
## Workers

`/metrics` on port 9400 of every worker that our launcher runs, one port a pod whatever the number of its ranks. Prometheus adds
`namespace`, `job`, `pod`, `worker` and `attempt`.
"""
GATEWAY = """
## Gateway

`/metrics` on port 9400 of every gateway. What the figures mean: [gateway.md](gateway.md).
"""
RECORDED = """
## Recorded

By [rules.yaml](../manifests/monitoring/rules.yaml).
"""


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["", "| metric | labels | kind | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.name}` | {', '.join(f'`{label}`' for label in row.labels)} | {row.kind} | {row.help} |" for row in rows]
    return "\n".join(lines) + "\n"


def recorded() -> str:
    """The recording rules as Markdown."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    found = [rule for group in groups for rule in group["rules"] if "record" in rule]
    rows = [f"| `{rule['record']}` | `{' '.join(rule['expr'].split()).replace('|', chr(92) + '|')}` |" for rule in found]
    return "\n".join(["", "| series | is |", "|---|---|", *rows]) + "\n"


def main() -> None:
    parts = [
        HEAD,
        OPERATOR,
        table(tables.operator()),
        JOBS,
        table(tables.jobs()),
        DEPLOYMENTS,
        table(tables.deployments()),
        WORKERS,
        table(tables.workers()),
    ]
    parts += [GATEWAY, table(tables.gateways())]
    sys.stdout.write("".join(parts) + RECORDED + recorded())


if __name__ == "__main__":
    main()

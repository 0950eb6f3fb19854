"""`python -m monitoring.rules`: the rules of manifests/monitoring/rules.yaml as the Prometheus operator takes them."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

RULES = Path("manifests/monitoring/rules.yaml")
HEAD = "# Made of rules.yaml by `make generate`.\n"


def main() -> None:
    labels = {"app.kubernetes.io/name": "trainwright"}
    wrapped = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "trainwright", "labels": labels},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    sys.stdout.write(HEAD + yaml.safe_dump(wrapped, sort_keys=False, width=150))


if __name__ == "__main__":
    main()

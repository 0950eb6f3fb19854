"""`python -m monitoring.dashboards fleet|job|operator|serving`: that dashboard as JSON."""

from __future__ import annotations

import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.dashboards.fleet import fleet
from monitoring.dashboards.job import job
from monitoring.dashboards.operator import operator
from monitoring.dashboards.serving import serving

DASHBOARDS = {"fleet": fleet, "job": job, "operator": operator, "serving": serving}


def main() -> None:
    made = DASHBOARDS[sys.argv[1]]()
    sys.stdout.write(JSONEncoder(sort_keys=True, indent=1).encode(made) + "\n")


if __name__ == "__main__":
    main()

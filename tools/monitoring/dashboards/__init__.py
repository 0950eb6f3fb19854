"""Grafana dashboards as code; `python -m monitoring.dashboards NAME` writes one as JSON."""

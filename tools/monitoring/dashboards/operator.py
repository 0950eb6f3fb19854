"""The operator: does it keep up, does the API server answer, has it heard of everything."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.parts import GREEN, RED, YELLOW, board, limits, lines, number


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket[$__rate_interval])))"


def operator() -> Dashboard:
    """The dashboard."""
    passes = "sum(rate(trainwright_reconcile_total"
    return board(
        "trainwright-operator",
        "Trainwright / Operator",
        "The operator: does it keep up, does the API server answer, has it heard of everything.",
        [],
        {
            "Now": [
                number("Jobs", "All training jobs there are.", "sum(trainwright_jobs)", width=6),
                number(
                    "Queue",
                    "Jobs that are due for a pass and wait.",
                    "sum(trainwright_queue_depth)",
                    colours=limits((None, GREEN), (50, YELLOW), (500, RED)),
                    width=6,
                ),
                number(
                    "Passes that fail",
                    "Share of the last minutes' passes that ended in an error.",
                    f'({passes}{{result="error"}}[5m])) or vector(0)) / {passes}[5m]))',
                    unit="percentunit",
                    colours=limits((None, GREEN), (0.02, YELLOW), (0.1, RED)),
                    width=6,
                ),
                number(
                    "Longest silence",
                    "Time since the API server last said anything about a kind of object; lists come every five minutes.",
                    "max(trainwright_watch_age_seconds)",
                    unit="s",
                    colours=limits((None, GREEN), (600, YELLOW), (900, RED)),
                    width=6,
                ),
            ],
            "Passes": [
                lines(
                    "Rate",
                    "Passes over jobs in a second, by result. A conflict is repeated at once and harmless.",
                    ("sum by (result) (rate(trainwright_reconcile_total[$__rate_interval]))", "{{result}}"),
                    unit="ops",
                    stacked=True,
                ),
                lines(
                    "Time of a pass",
                    "Median and slowest hundredth.",
                    (_quantile(0.5, "trainwright_reconcile_seconds"), "median"),
                    (_quantile(0.99, "trainwright_reconcile_seconds"), "p99"),
                    unit="s",
                ),
                lines(
                    "Wait for a pass",
                    "How long a job that is due waits.",
                    (_quantile(0.5, "trainwright_queue_wait_seconds"), "median"),
                    (_quantile(0.99, "trainwright_queue_wait_seconds"), "p99"),
                    unit="s",
                ),
            ],
            "API server": [
                lines(
                    "Requests by verb",
                    "Requests in a second.",
                    ("sum by (verb, resource) (rate(trainwright_api_requests_total[$__rate_interval]))", "{{verb}} {{resource}}"),
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "Requests by code",
                    "0: no answer. 409 is somebody who was quicker, and harmless.",
                    ("sum by (code) (rate(trainwright_api_requests_total[$__rate_interval]))", "{{code}}"),
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "Silence by kind of object",
                    "Time since the API server last said anything about it.",
                    ("max by (resource) (trainwright_watch_age_seconds)", "{{resource}}"),
                    unit="s",
                    at=(900, RED),
                ),
            ],
            "Workers' progress": [
                lines(
                    "Questions to workers",
                    "Workers asked for progress in a second, by whether they answered. One that doesn't trains on all the same.",
                    ("sum by (result) (rate(trainwright_progress_polls_total[$__rate_interval]))", "{{result}}"),
                    unit="ops",
                    stacked=True,
                ),
                lines(
                    "CPU",
                    "Cores that the operator uses.",
                    ('rate(process_cpu_seconds_total{job="trainwright-operator"}[$__rate_interval])', "cores"),
                ),
                lines(
                    "Memory",
                    "Resident memory of the operator.",
                    ('process_resident_memory_bytes{job="trainwright-operator"}', "resident"),
                    unit="bytes",
                ),
            ],
        },
    )

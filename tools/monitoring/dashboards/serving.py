"""One served model: what clients get, the next version beside the live one, drift, accuracy, what became of versions."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.parts import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    PanelBuilder,
    Query,
    board,
    choice,
    event,
    limits,
    lines,
    number,
    rows,
    states,
)

OF = 'namespace="$namespace", deployment="$deployment"'
# Servers may tell of their processes by the same names. A PodMonitor's job has its namespace in front.
PROCESS = f'{OF}, job=~"(.*/)?trainwright-gateways"'
VERSION = "version {{version}}"
POD = "{{pod}}"
FAILED = limits((None, GREEN), (0.01, YELLOW), (0.05, RED))
DRIFTED = limits((None, GREEN), (0.1, YELLOW), (0.25, RED))


def _of(role: str, figure: str) -> str:
    """A recorded figure of the version that has this role now."""
    return f'{figure}{{{OF}}} and on (namespace, deployment, version) trainwright_serving_weight_ratio{{{OF}, role="{role}"}}'


def _both(figure: str) -> tuple[Query, Query]:
    """A figure of the live version and of the one on its way, beside each other."""
    return (_of("live", figure), "live, version {{version}}"), (_of("candidate", figure), "candidate, version {{version}}")


def _by(labels: str, metric: str, more: str = "") -> str:
    return f"sum by ({labels}) (rate(trainwright_serving_{metric}{{{OF}{more}}}[$__rate_interval]))"


def _now() -> Sequence[PanelBuilder]:
    return (
        number("Live version", "The version that serves.", f"trainwright_deployment_live_version{{{OF}}}", width=3),
        number(
            "Requests",
            "Predictions that clients ask for in a second.",
            f"sum(version:trainwright_serving_requests:rate{{{OF}}})",
            unit="reqps",
            width=3,
        ),
        number(
            "Errors",
            "Share of the live version's requests that failed (5xx, or no answer). Alert: docs/runbooks/model-errors.md.",
            _of("live", "version:trainwright_serving_errors:ratio"),
            unit="percentunit",
            colours=FAILED,
            width=3,
        ),
        number(
            "p99",
            "Latency that one request in a hundred exceeds, live version. Alert: docs/runbooks/model-slow.md.",
            _of("live", "version:trainwright_serving_seconds:p99"),
            unit="s",
            width=3,
        ),
        number(
            "Available",
            "1 while servers and gateways of the live version are ready. Alert: docs/runbooks/model-unavailable.md.",
            f"trainwright_deployment_available{{{OF}}}",
            colours=limits((None, RED), (1, GREEN)),
            width=3,
        ),
        number(
            "Drift",
            "Largest population stability index of a feature. Alert: docs/runbooks/input-drift.md.",
            f"max(trainwright_serving_drift_score{{{OF}}})",
            decimals=2,
            colours=DRIFTED,
            width=3,
        ),
        number(
            "Quality by labels",
            "Accuracy, or mean absolute error, of answers that have labels by now, live version.",
            _of("live", "version:trainwright_serving_quality:mean"),
            decimals=3,
            width=3,
            legend="{{metric}}",
        ),
        number(
            "Rolled back",
            "Versions that failed their canary, or couldn't be loaded, in the last week.",
            f'sum(max_over_time(trainwright_deployment_versions_ended_total{{{OF}, state="RolledBack"}}[7d])'
            f' - min_over_time(trainwright_deployment_versions_ended_total{{{OF}, state="RolledBack"}}[7d]))',
            colours=limits((None, GREEN), (1, YELLOW)),
            width=3,
        ),
        states("Phases", "Which phase the deployment was in.", f"trainwright_deployment_phase{{{OF}}}", "{{phase}}"),
    )


def _traffic() -> Sequence[PanelBuilder]:
    return (
        lines(
            "Requests",
            "Predictions in a second, by version.",
            (_by("version", "requests_total"), VERSION),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Answers",
            "By the class of their code: 4xx are clients' mistakes, 5xx and none are errors.",
            (_by("code", "requests_total"), "{{code}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Errors",
            "Share of a version's requests that failed: 5xx, or no answer after all retries.",
            (f"version:trainwright_serving_errors:ratio{{{OF}}}", VERSION),
            unit="percentunit",
            at=(0.05, RED),
        ),
        lines(
            "Latency, median",
            "What a client waits for a version's answer, retries included.",
            (f"version:trainwright_serving_seconds:p50{{{OF}}}", VERSION),
            unit="s",
        ),
        lines(
            "Latency, p99",
            "The slowest hundredth, by version; and that of the day before, all versions (after an hour).",
            (f"version:trainwright_serving_seconds:p99{{{OF}}}", VERSION),
            (f"deployment:trainwright_serving_seconds:p99_day{{{OF}}}", "the day before"),
            unit="s",
        ),
        lines(
            "Retries and fallbacks",
            "Requests sent once more to the same version, and those that the live version answered in a candidate's place.",
            (_by("version", "retries_total"), "retries, version {{version}}"),
            (_by("version", "fallbacks_total"), "answered for version {{version}}"),
            unit="reqps",
        ),
        lines(
            "Answers that are not finite",
            "With NaN or infinity in them. Alert: docs/runbooks/answers-not-finite.md.",
            (_by("version", "not_finite_total"), VERSION),
            unit="reqps",
        ),
        lines(
            "In flight",
            "Requests that wait for an answer. One that grows is a server that can't keep up.",
            (f"sum by (version) (trainwright_serving_requests_in_flight{{{OF}}})", VERSION),
        ),
        lines(
            "Addresses",
            "Servers' addresses of each version, by whether they answer, as the gateways see it.",
            (f"max by (version, state) (trainwright_serving_addresses{{{OF}}})", "version {{version}}: {{state}}"),
        ),
    )


def _canary() -> Sequence[PanelBuilder]:
    share = f"version:trainwright_serving_requests:rate{{{OF}}}"
    return (
        number("Candidate", "The version on its way.", f"trainwright_deployment_candidate_version{{{OF}}}"),
        number(
            "In its step for",
            "How long it has been verified, published, loaded or tried. Alert: docs/runbooks/version-stuck.md.",
            f"time() - trainwright_deployment_candidate_step_start_timestamp_seconds{{{OF}}}",
            unit="s",
        ),
        number(
            "Requests it lacks",
            "Answers that this step of the canary still waits for. Alert: docs/runbooks/canary-starved.md.",
            f"trainwright_deployment_canary_missing_requests{{{OF}}}",
        ),
        states(
            "Steps of the candidate",
            "What was being done with the version on its way.",
            f"trainwright_deployment_candidate_step{{{OF}}}",
            "{{step}}",
            width=12,
        ),
        lines(
            "Share of requests",
            "What each version should get, and what the candidate got. Clients that ask for a version by name aren't held to it.",
            (f"max by (version, role) (trainwright_serving_weight_ratio{{{OF}}})", "version {{version}} ({{role}}): weight"),
            (
                f"({_of('candidate', 'version:trainwright_serving_requests:rate')}) / on (namespace, deployment) group_left ()"
                f" (sum by (namespace, deployment) ({share}) > 0)",
                "version {{version}}: share",
            ),
            unit="percentunit",
            highest=1,
        ),
        lines(
            "Errors, live and candidate",
            "The canary ends when the candidate's lie above the live version's by more than canary.maxErrorRatio.",
            *_both("version:trainwright_serving_errors:ratio"),
            unit="percentunit",
        ),
        lines(
            "p99, live and candidate",
            "The canary ends when the candidate's is more than canary.maxLatencyRatio of the live version's.",
            *_both("version:trainwright_serving_seconds:p99"),
            unit="s",
        ),
    )


def _drift() -> Sequence[PanelBuilder]:
    features = f"trainwright_serving_feature_drift{{{OF}"
    columns = [("PSI", "psi"), ("KS", "ks"), ("Jensen-Shannon", "js"), ("missing", "missing"), ("new words", "newCategories")]
    return (
        lines(
            "Drift",
            "Population stability index of the feature that moved most, and of the predictions, beside monitoring.maxDrift.",
            (f"max(trainwright_serving_drift_score{{{OF}}})", "inputs"),
            (f"max(trainwright_serving_prediction_drift{{{OF}}})", "predictions"),
            (f"max(trainwright_deployment_max_drift{{{OF}}})", "from here on it counts"),
        ),
        lines(
            "PSI by feature",
            "The ten that moved most. Above 0.1 something has changed, above 0.25 much.",
            (f'topk(10, max by (feature) ({features}, statistic="psi"}}))', "{{feature}}"),
            at=(0.25, YELLOW),
        ),
        lines(
            "Rows looked at",
            "Rows in the window that drift is measured in; below monitoring.minSamples nothing is told.",
            (f"sum by (version) (trainwright_serving_window_samples{{{OF}}})", VERSION),
        ),
        rows(
            "Features",
            "How far each feature has moved from training: docs/gateway.md says what the statistics are.",
            [(name, f'max by (feature) ({features}, statistic="{statistic}"}})', "short") for name, statistic in columns],
            by=["feature"],
        ),
    )


def _quality() -> Sequence[PanelBuilder]:
    return (
        lines(
            "Quality by labels",
            "Accuracy or mean absolute error of answers whose labels have come, and what training said of the live version."
            " Alert: docs/runbooks/accuracy-fell.md.",
            (f"version:trainwright_serving_quality:mean{{{OF}}}", "{{metric}}, version {{version}}"),
            (f'trainwright_deployment_live_metric{{{OF}, metric=~"accuracy|mae"}}', "{{metric}} on the test part"),
        ),
        lines(
            "Label coverage",
            "Share of the answered rows that have labels: what the figure beside it speaks of.",
            (f"max by (version) (trainwright_serving_label_coverage_ratio{{{OF}}})", VERSION),
            unit="percentunit",
        ),
        lines(
            "Labels",
            "Labels in a second, by what became of them.",
            (_by("result", "feedback_total"), "{{result}}"),
            unit="ops",
            stacked=True,
        ),
    )


def _versions() -> Sequence[PanelBuilder]:
    return (
        lines(
            "Versions ended",
            "Versions that went live, were refused, or rolled back, since there is the deployment."
            " `trainwright versions NAME` says why.",
            (f"sum by (state) (trainwright_deployment_versions_ended_total{{{OF}}})", "{{state}}"),
        ),
        lines(
            "Versions remembered",
            "By what became of them.",
            (f"sum by (state) (trainwright_deployment_versions{{{OF}}}) > 0", "{{state}}"),
            stacked=True,
        ),
        lines(
            "Metrics of the live version",
            "As its trainer measured them on the test part. A step is another version.",
            (f"trainwright_deployment_live_metric{{{OF}}}", "{{metric}}"),
        ),
    )


def _gateways() -> Sequence[PanelBuilder]:
    return (
        lines(
            "Gateways",
            "Those that answer Prometheus.",
            (f"count(trainwright_serving_sync_timestamp_seconds{{{OF}}})", "gateways"),
        ),
        lines(
            "Silence of the operator",
            "Time since a gateway was last told what to do, which is once a second. Alert: docs/runbooks/gateway-syncs-fail.md.",
            (f"time() - trainwright_serving_sync_timestamp_seconds{{{OF}}}", POD),
            unit="s",
            at=(60, YELLOW),
        ),
        lines(
            "Syncs",
            "The operator's, with the gateways of all deployments, in a second.",
            ("sum by (result) (rate(trainwright_gateway_syncs_total[$__rate_interval]))", "{{result}}"),
            unit="ops",
            stacked=True,
        ),
        lines(
            "Predictions looked into",
            "For drift and labels, in a second. Dropped: more than the watcher keeps up with; clients don't wait for it.",
            (_by("result", "samples_total"), "{{result}}"),
            unit="ops",
            stacked=True,
        ),
        lines(
            "Check by samples",
            "1 for the state that the check of a version by its recorded samples is in.",
            (f"max by (version, state) (trainwright_serving_smoke_state{{{OF}}}) > 0", "version {{version}}: {{state}}"),
        ),
        lines(
            "Available in gateways",
            "1 where a server says that it has the version.",
            (
                f"min by (version, role) (trainwright_serving_version_available{{{OF}}})",
                "version {{version}} ({{role}})",
            ),
        ),
        lines(
            "CPU",
            "Cores that a gateway uses, its watcher not counted.",
            (f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval])", POD),
        ),
        lines(
            "Memory",
            "Resident memory of a gateway, its watcher not counted.",
            (f"process_resident_memory_bytes{{{PROCESS}}}", POD),
            unit="bytes",
        ),
    )


def serving() -> Dashboard:
    """The dashboard."""
    return board(
        "trainwright-serving",
        "Trainwright / Served model",
        "One served model: what clients get, the next version beside the live one, drift, accuracy, what became of versions.",
        [
            choice("namespace", "Namespace", "label_values(trainwright_deployment_phase, namespace)", several=False),
            choice(
                "deployment",
                "Deployment",
                'label_values(trainwright_deployment_phase{namespace="$namespace"}, deployment)',
                several=False,
            ),
        ],
        {
            "Now": _now(),
            "What clients get": _traffic(),
            "The next version": _canary(),
            "Drift": _drift(),
            "Quality": _quality(),
            "Versions": _versions(),
            "Gateways": _gateways(),
        },
        since="now-3h",
        annotations=[event("another version is live", f"changes(trainwright_deployment_live_version{{{OF}}}[1m]) > 0", BLUE)],
    )

"""What a scrape of the operator says of each job: from status alone, bounded, and gone with the job."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.builders import job
from trainwright.controller.job_series import JOB_METRICS, JobSeries
from trainwright.plan.prices import read_prices

NOW = 1_795_266_000.0
STATUS: dict[str, Any] = {
    "phase": "Running",
    "phaseSince": "2026-11-21T09:00:00Z",
    "attempt": 3,
    "workers": {"desired": 2, "running": 2, "ready": "2/2"},
    "progress": {"step": 120, "totalSteps": 480, "percent": 25.0, "etaSeconds": 90.0, "samplesPerSecond": 512.5},
    "metrics": {"val_accuracy": 0.97, "loss": 0.1},
    "checkpoint": {"step": 100, "time": "2026-11-21T09:30:00Z"},
    "restarts": {"failure": 1, "infrastructure": 1, "total": 2, "byCause": {"Killed": 1, "NodeLost": 1}},
    "time": {"queuedSeconds": 60, "startingSeconds": 20, "productiveSeconds": 100, "lostSeconds": 20},
    "heldSeconds": 120,
}
PRICES = "{currency: EUR, gpu: 2.0, cpu: 0.5, memoryGiB: 0.25, nodes: [{nodeSelector: {gpu: h100}, gpu: 8.0}]}"


def raw(name: str = "digits", *, status: dict[str, Any] = STATUS, **spec: Any) -> dict[str, Any]:
    made = job(name).spec(workers=2, **spec).build()
    made["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": "7", "creationTimestamp": "2026-11-21T08:58:00Z"}
    return made | {"status": status}


def scraped(*jobs: dict[str, Any], **options: Any) -> dict[tuple[str, ...], float]:
    """Values by name and the values of labels, namespace and job left out."""
    registry = CollectorRegistry()
    registry.register(JobSeries(lambda: list(jobs), clock=lambda: NOW, **options))
    text = generate_latest(registry).decode()
    return {
        (sample.name, *(value for label, value in sample.labels.items() if label not in ("namespace", "job"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_running_job_tells_all_of_its_status() -> None:
    values = scraped(raw(resources={"gpus": 4}))
    since = NOW - 1_795_251_600.0
    assert values["trainwright_job_phase", "Running"] == 1
    assert values["trainwright_job_phase_start_timestamp_seconds",] == 1_795_251_600.0
    assert values["trainwright_job_gpus",] == 8
    assert values["trainwright_job_workers", "running"] == 2
    assert values["trainwright_job_progress_ratio",] == pytest.approx(0.25)
    assert values["trainwright_job_samples_per_second",] == 512.5
    assert values["trainwright_job_metric", "val_accuracy"] == 0.97
    assert values["trainwright_job_checkpoint_timestamp_seconds",] == 1_795_253_400.0
    assert values["trainwright_job_restarts_total", "NodeLost"] == 1
    assert values["trainwright_job_spent_seconds", "queued"] == 60
    assert values["trainwright_job_spent_seconds", "productive"] == 100 + since, "what has passed since the phase began counts"
    assert values["trainwright_job_goodput_ratio",] == pytest.approx((100 + since) / (200 + since), abs=1e-3)
    assert values["trainwright_job_gpu_seconds_total",] == (120 + since) * 8
    assert values["trainwright_jobs", "Running"] == 1
    assert values["trainwright_jobs", "Failed"] == 0
    assert not [key for key in values if key[0] == "trainwright_job_cost_total"], "without prices there is no cost"


def test_what_is_not_known_is_not_said() -> None:
    names = {key[0] for key in scraped(raw(status={}))}
    assert names == {
        "trainwright_jobs",
        "trainwright_jobs_without_series",
        "trainwright_job_created_timestamp_seconds",
        "trainwright_job_gpus",
        "trainwright_job_wanted_workers",
        *(f"trainwright_job_{name}" for name in ("spent_seconds", "gpu_seconds_total")),
    }


@pytest.mark.parametrize(
    ("spec", "hourly"),
    [
        pytest.param({"resources": {"gpus": 1, "cpu": "500m", "memory": "8Gi"}}, 2 * (2.0 + 0.25 + 2.0), id="all it asks for"),
        pytest.param(
            {"resources": {"gpus": 1}, "placement": {"nodeSelector": {"gpu": "h100", "a": "b"}}}, 2 * 8.0, id="dear nodes"
        ),
        pytest.param({"resources": {"gpus": 1}, "placement": {"nodeSelector": {"gpu": "a100"}}}, 2 * 2.0, id="other nodes"),
        pytest.param({}, 0.0, id="nothing"),
    ],
)
def test_cost_is_what_was_held_by_the_price_table(spec: dict[str, Any], hourly: float) -> None:
    held = 120 + NOW - 1_795_251_600.0
    values = scraped(raw(**spec), prices=read_prices(PRICES))
    assert values["trainwright_job_cost_total", "EUR"] == pytest.approx(hourly * held / 3600)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu: 2", "currency"),
        ("{currency: euro}", "currency: 'euro'"),
        ("{currency: EUR, gpu: -1}", "gpu: -1"),
        ("{currency: EUR, gpus: 1}", "gpus"),
        ("{currency: EUR, nodes: [{gpu: 1}]}", "nodes.0.nodeSelector"),
        ("[", "is no YAML"),
        ("", "the table"),
    ],
)
def test_a_price_table_that_can_not_be_read_is_told_where(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        read_prices(text)


def test_series_are_bounded_and_those_that_ended_long_ago_go_first() -> None:
    ended = [
        raw(f"old-{number}", status={"phase": "Succeeded", "completionTime": f"2026-11-2{number}T09:00:00Z"})
        for number in range(3)
    ]
    registry = CollectorRegistry()
    registry.register(JobSeries(lambda: [*ended, raw("running")], max_jobs=2, clock=lambda: NOW))
    text = generate_latest(registry).decode()
    assert 'job="running"' in text
    assert 'job="old-2"' in text
    assert 'job="old-0"' not in text
    assert 'trainwright_jobs{phase="Succeeded"} 3.0' in text
    assert "trainwright_jobs_without_series 2.0" in text


def test_five_hundred_jobs_have_a_bounded_number_of_series() -> None:
    full = STATUS | {"metrics": {f"m{number}": 1.0 for number in range(32)}}
    jobs = [raw(f"job-{number}", status=full, resources={"gpus": 1}) for number in range(500)]
    registry = CollectorRegistry()
    registry.register(JobSeries(lambda: jobs, prices=read_prices(PRICES), clock=lambda: NOW))
    series = sum(1 for line in generate_latest(registry).decode().splitlines() if not line.startswith("#"))
    # One of each, four states of workers, five of time, two causes, and 32 metrics.
    assert series <= 500 * (len(JOB_METRICS) + 3 + 4 + 1 + 31) + 20


def test_a_job_is_read_again_only_when_it_has_changed() -> None:
    jobs = [raw()]
    series = JobSeries(lambda: jobs, clock=lambda: NOW)
    first = next(iter(series._parsed()))
    assert next(iter(series._parsed())) is first
    jobs[0] = jobs[0] | {"metadata": jobs[0]["metadata"] | {"resourceVersion": "8"}}
    assert next(iter(series._parsed())) is not first
    jobs.clear()
    assert series._parsed() == []
    assert series._read == {}, "nothing is kept of a job that is gone"


def test_a_job_that_can_not_be_read_counts_by_its_phase() -> None:
    broken = raw("broken", status={"phase": "Failed"})
    broken["spec"]["workers"] = 0
    values = scraped(broken)
    assert values["trainwright_jobs", "Failed"] == 1
    assert values["trainwright_job_phase", "Failed"] == 1

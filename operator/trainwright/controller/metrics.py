"""The operator's own metrics: one table, one registry. Job-level series vanish with their job."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from trainwright.api.job import TrainingJob
from trainwright.api.status import Phase

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WORKER_STATES = ("pending", "running", "succeeded", "failed")
_LONG = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """Every metric with its meaning; docs/operations.md is made of the same words."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        job = ("namespace", "job")
        self.reconciles = Counter(
            "trainwright_reconcile_total", "Passes over a job, by result.", ("result",), registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "trainwright_reconcile_seconds", "Time of a pass over a job.", buckets=_SECONDS, registry=self.registry
        )
        self.queue_depth = Gauge("trainwright_queue_depth", "Jobs that are due for a pass and wait.", registry=self.registry)
        self.queue_seconds = Histogram(
            "trainwright_queue_wait_seconds", "Time that a job waited for its pass.", buckets=_SECONDS, registry=self.registry
        )
        self.requests = Counter(
            "trainwright_api_requests_total",
            "Requests to the API server, by verb, resource and HTTP code (0: no answer).",
            ("verb", "resource", "code"),
            registry=self.registry,
        )
        self.jobs = Gauge("trainwright_jobs", "Training jobs, by phase.", ("phase",), registry=self.registry)
        self.start_seconds = Histogram(
            "trainwright_job_start_seconds",
            "Time from a job's creation until all its workers first ran.",
            buckets=_LONG,
            registry=self.registry,
        )
        self.restarts = Counter(
            "trainwright_job_restarts_total", "Restarts of a job's gang, by cause.", (*job, "cause"), registry=self.registry
        )
        self.step = Gauge("trainwright_job_step", "Optimizer steps that a job has done.", job, registry=self.registry)
        self.workers = Gauge(
            "trainwright_job_workers", "Workers of a job's current attempt, by state.", (*job, "state"), registry=self.registry
        )
        self._phases: dict[tuple[str, str], Phase] = {}
        self._causes: dict[tuple[str, str], set[str]] = {}
        for phase in Phase:
            self.jobs.labels(phase.value)

    def request(self, verb: str, resource: str, code: int) -> None:
        self.requests.labels(verb, resource, str(code)).inc()

    def saw_job(self, job: TrainingJob) -> None:
        """Take a job's status over into its series."""
        key = (job.namespace, job.name)
        status = job.status
        if status.phase is not None and self._phases.get(key) is not status.phase:
            self._forget_phase(key)
            self._phases[key] = status.phase
            self.jobs.labels(status.phase.value).inc()
        if status.progress and status.progress.step is not None:
            self.step.labels(*key).set(status.progress.step)
        if status.workers:
            for state in WORKER_STATES:
                self.workers.labels(*key, state).set(getattr(status.workers, state))

    def saw_restart(self, job: TrainingJob, cause: str) -> None:
        self.restarts.labels(job.namespace, job.name, cause).inc()
        self._causes.setdefault((job.namespace, job.name), set()).add(cause)

    def forget(self, namespace: str, name: str) -> None:
        """Drop every series of a job that is gone."""
        key = (namespace, name)
        self._forget_phase(key)
        for cause in self._causes.pop(key, set()):
            self.restarts.remove(*key, cause)
        # Not every job has got as far as to have these.
        with contextlib.suppress(KeyError):
            self.step.remove(*key)
        for state in WORKER_STATES:
            with contextlib.suppress(KeyError):
                self.workers.remove(*key, state)

    def _forget_phase(self, key: tuple[str, str]) -> None:
        phase = self._phases.pop(key, None)
        if phase is not None:
            self.jobs.labels(phase.value).dec()

"""Whom a job is admitted by: the provider that it names, or the one that jobs have which name none."""

from __future__ import annotations

from collections.abc import Mapping

from trainwright.api.job import TrainingJob
from trainwright.api.scheduling import ProviderName
from trainwright.schedulers.base import UNGATED, Admission, Provider


class Admissions:
    """`providers`: all but `none`. `default`: of a job that names none."""

    def __init__(self, providers: Mapping[ProviderName, Provider], default: ProviderName = ProviderName.NONE) -> None:
        self._providers = providers
        self._default = default

    def answer(self, job: TrainingJob) -> Admission:
        provider = None if job.status.finished else self._of(job)
        return UNGATED if provider is None else provider.answer(job)

    def refused(self, job: TrainingJob, why: str) -> None:
        """The API server would not take the job's pods."""
        if provider := self._of(job):
            provider.refused(job, why)

    def _of(self, job: TrainingJob) -> Provider | None:
        return self._providers.get(job.spec.run_policy.scheduling.provider_or(self._default))

"""What whoever admits a job says of it."""

from __future__ import annotations

from collections.abc import Mapping

from trainwright.api.job import TrainingJob
from trainwright.api.scheduling import ProviderName
from trainwright.controller.default_provider import DefaultProvider
from trainwright.schedulers.base import UNGATED, Admission, Provider


class Admissions:
    """`providers`: all but `none`."""

    def __init__(self, providers: Mapping[ProviderName, Provider], default: DefaultProvider) -> None:
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
        return self._providers.get(self._default.of(job))

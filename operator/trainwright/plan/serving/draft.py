"""What a pass over a deployment gathers on its way through the steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_status import (
    Candidate,
    DeploymentConditionType,
    ModelDeploymentStatus,
    Step,
    Version,
    VersionState,
)
from trainwright.api.reasons import Reason
from trainwright.observe.serving import Served
from trainwright.observe.times import rfc3339
from trainwright.plan.serving.status import at_rest, in_state, with_conditions, with_version
from trainwright.plan.types import Event, Settings

Object = dict[str, Any]


@dataclass
class Draft:
    """`status` is what will be written; `tasks` are publisher's Jobs to make; `wishes` seconds until another look."""

    deployment: ModelDeployment
    served: Served
    now: float
    settings: Settings
    status: ModelDeploymentStatus
    tasks: list[Object] = field(default_factory=list)
    rerun: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    wishes: list[float] = field(default_factory=list)

    @property
    def candidate(self) -> Candidate | None:
        return self.status.candidate

    @property
    def version(self) -> Version:
        """The candidate's entry."""
        found = self.status.version(self.status.candidate.version) if self.status.candidate else None
        assert found is not None, "a candidate has an entry"  # noqa: S101
        return found

    def wait(self, reason: str, seconds: float | None = None) -> None:
        """Nothing to be done at present; `reason` is what the user reads."""
        self.status = self.status.model_copy(update={"reason": reason})
        if seconds is not None:
            self.wishes.append(max(0.1, seconds))

    def enter(self, step: Step, **more: Any) -> None:
        """The candidate's next step begins."""
        assert self.candidate is not None  # noqa: S101 - who enters a step is a candidate
        candidate = Candidate(version=self.candidate.version, step=step, since=rfc3339(self.now), **more)
        self.status = self.status.model_copy(update={"candidate": candidate})

    def renumber(self, number: int) -> None:
        """The candidate gets another number: its own has something else where servers load from."""
        candidate, old = self.candidate, self.version.version
        assert candidate is not None  # noqa: S101 - asked before
        self.status = with_version(self.status, old, version=number)
        update = {"candidate": candidate.model_copy(update={"version": number}), "last_version": number}
        self.status = self.status.model_copy(update=update)
        said = f"version {number}: was {old}, which another deployment of this name has left in the claim"
        self.tell(Reason.OFFER_TAKEN, said, f"v{number}-taken")

    def note(self, **changes: Any) -> None:
        """Say something of the candidate's entry."""
        self.status = with_version(self.status, self.version.version, **changes)

    def say(self, kind: DeploymentConditionType, true: bool, reason: Reason, message: str) -> None:
        """A condition of the newest version, and an event."""
        number = self.version.version
        self.status = with_conditions(
            self.status, self.deployment, self.now, (kind, true, reason, f"version {number}: {message}")
        )
        self.tell(reason, f"version {number}: {message}", f"v{number}-{kind.value.lower()}-{'yes' if true else 'no'}")

    def tell(self, reason: Reason, message: str, key: str) -> None:
        self.events.append(Event(reason=reason, message=message, key=key))

    def refuse(self, kind: DeploymentConditionType, reason: Reason, message: str) -> None:
        """The candidate goes no further and never was loaded."""
        self.say(kind, False, reason, message)
        self._end(VersionState.REFUSED, message)

    def roll_back(self, kind: DeploymentConditionType, reason: Reason, message: str) -> None:
        """The candidate gives way; whoever was live stays so."""
        self.say(kind, False, reason, message)
        self._end(VersionState.ROLLED_BACK, message)

    def _end(self, state: VersionState, message: str) -> None:
        number = self.version.version
        self.status = in_state(self.status, number, state, message, self.now)
        self._count(state)
        ended = self.status.model_copy(update={"candidate": None})
        self.status = ended.model_copy(update={"reason": at_rest(ended)})

    def _count(self, state: VersionState) -> None:
        ended = {**self.status.ended, state.value: self.status.ended.get(state.value, 0) + 1}
        self.status = self.status.model_copy(update={"ended": ended})

    def go_live(self, message: str) -> None:
        """The candidate serves all from now on; who was live before can be gone back to."""
        number, before = self.version.version, self.status.live
        if self.status.previous not in (None, number):
            self.status = in_state(self.status, self.status.previous, VersionState.KEPT, None, self.now)
        self.status = in_state(self.status, before, VersionState.PREVIOUS, f"version {number} took its place", self.now)
        self.status = in_state(self.status, number, VersionState.LIVE, message, self.now)
        self._count(VersionState.LIVE)
        # What was said of drift was said of another version.
        conditions = [one for one in self.status.conditions if one.type is not DeploymentConditionType.DRIFTING]
        update = {"conditions": conditions, "candidate": None, "live": number, "previous": before, "reason": None}
        self.status = self.status.model_copy(update=update)
        self.tell(Reason.VERSION_LIVE, f"version {number} is live: {message}", f"v{number}-live-{int(self.now)}")

"""Why a worker failed, in one table: the words of status, events, metrics and failure rules, each with what it means."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """PascalCase, as Kubernetes writes its own."""

    ERROR = "Error"
    KILLED = "Killed"
    OOM_KILLED = "OOMKilled"
    PREFLIGHT = "Preflight"
    INVALID_CONFIG = "InvalidConfig"
    NO_CHECKPOINT = "NoCheckpoint"
    HUNG = "Hung"
    PEER_LOST = "PeerLost"
    TERMINATED = "Terminated"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    DELETED = "Deleted"

    @property
    def infrastructure(self) -> bool:
        """Whether the job had no part in it, so that it doesn't count against backoffLimit."""
        return self in (Cause.EVICTED, Cause.PREEMPTED, Cause.NODE_LOST, Cause.DELETED)

    @property
    def permanent(self) -> bool:
        """Whether another attempt would end in the same way."""
        return self in (Cause.INVALID_CONFIG, Cause.NO_CHECKPOINT)


CAUSE_MEANINGS: dict[Cause, str] = {
    Cause.ERROR: "The program ended with an exit code from 1 to 128 of its own.",
    Cause.KILLED: "A signal ended it.",
    Cause.OOM_KILLED: "It used more memory than `resources.memory`.",
    Cause.PREFLIGHT: "Before training: worker 0 wasn't found or didn't answer, or the disk can't be written. Restarted.",
    Cause.INVALID_CONFIG: "The trainer refused its configuration. Another attempt would too, so the job fails.",
    Cause.NO_CHECKPOINT: "No checkpoint could be loaded, though there are some. Another attempt would end so too: the job fails.",
    Cause.HUNG: "A rank took no step for longer than `runPolicy.progressDeadlineSeconds`; where it was is in the evidence.",
    Cause.PEER_LOST: "A rank lost its connection to another one, and nobody said why that one went.",
    Cause.TERMINATED: "It was asked to stop, and nobody said by whom.",
    Cause.EVICTED: "The node had to make room. Not counted.",
    Cause.PREEMPTED: "The scheduler made room for a pod of higher priority. Not counted.",
    Cause.NODE_LOST: "Its node went, or stopped answering. Not counted.",
    Cause.DELETED: "Somebody deleted the pod. Not counted.",
}

"""How a worker failed: from its container's end and its launcher's last words to a cause with evidence.

Source: the pod's status as the kubelet wrote it, and the termination message described in docs/contract.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from trainwright.api.causes import Cause

MAX_EVIDENCE = 2048

EXIT_INVALID_CONFIG = 64
EXIT_NO_CHECKPOINT = 65
EXIT_PREFLIGHT = 66
EXIT_HUNG = 67


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One worker's end. `time` is in seconds since the epoch, to the millisecond when the launcher lived to say it."""

    pod: str
    index: int
    cause: Cause
    time: float
    exit_code: int | None = None
    signal: int | None = None
    rank: int | None = None
    message: str = ""
    evidence: str = ""

    def __str__(self) -> str:
        who = f"rank {self.rank} in {self.pod}" if self.rank is not None else self.pod
        match self.cause:
            case Cause.DELETED:
                how = "was deleted"
            case Cause.EVICTED | Cause.PREEMPTED:
                how = f"was {self.cause.lower()}"
            case Cause.NODE_LOST:
                how = "was lost with its node"
            case Cause.HUNG:
                how = "hung"
            case Cause.OOM_KILLED:
                how = "ran out of memory (OOMKilled)"
            case _ if self.signal:
                how = f"was killed by signal {self.signal}"
            case _:
                how = f"exited with code {self.exit_code}"
        return f"{who} {how}" + (f": {self.message}" if self.message else "")


def first_failure(failures: list[Failure]) -> Failure:
    """The one that brought the others down.

    A rank that says its peer vanished, or that was asked to stop, is a consequence as long as any other failed.
    """
    return min(failures, key=lambda failure: (failure.cause in (Cause.PEER_LOST, Cause.TERMINATED), failure.time, failure.index))


def container_failure(*, pod: dict[str, Any], index: int, terminated: dict[str, Any], finished_at: float) -> Failure:
    """The failure behind a container's `terminated` state."""
    name = pod["metadata"]["name"]
    code = int(terminated.get("exitCode", 0))
    said = _last_words(terminated.get("message") or "")
    signal = int(terminated.get("signal") or 0) or (code - 128 if code > 128 else None)
    if "deletionTimestamp" in pod["metadata"]:
        cause = disruption(pod) or Cause.DELETED
    else:
        cause = disruption(pod) or _cause(code, terminated.get("reason"), said)
    lines = said.get("lines") if isinstance(said.get("lines"), list) else []
    return Failure(
        pod=name,
        index=index,
        cause=cause,
        time=_number(said.get("time")) or finished_at,
        exit_code=code,
        signal=_whole(said.get("signal")) or signal,
        rank=_whole(said.get("rank")),
        message=str(said.get("message") or "")[:500],
        evidence="\n".join(str(line) for line in lines or [])[-MAX_EVIDENCE:],
    )


def pod_failure(*, pod: dict[str, Any], index: int, time: float) -> Failure:
    """A pod that failed as a whole, with no container to ask: evicted, preempted, or lost."""
    status = pod.get("status", {})
    cause = disruption(pod) or (Cause.EVICTED if status.get("reason") == "Evicted" else Cause.NODE_LOST)
    return Failure(
        pod=pod["metadata"]["name"], index=index, cause=cause, time=time, message=str(status.get("message") or "")[:500]
    )


def _cause(code: int, reason: str | None, said: dict[str, Any]) -> Cause:
    if reason == "OOMKilled":
        return Cause.OOM_KILLED
    if reason == "ContainerStatusUnknown":
        # The node came back and doesn't know the container any more; the code that goes with it is made up.
        return Cause.NODE_LOST
    if said.get("cause") in (Cause.PEER_LOST, Cause.TERMINATED):
        return Cause(said["cause"])
    known = {
        EXIT_INVALID_CONFIG: Cause.INVALID_CONFIG,
        EXIT_NO_CHECKPOINT: Cause.NO_CHECKPOINT,
        EXIT_PREFLIGHT: Cause.PREFLIGHT,
        EXIT_HUNG: Cause.HUNG,
    }
    # Only a launcher's own word makes a reserved code mean what it does for us: a foreign program may use 64 as it likes.
    if code in known and said.get("cause") == known[code]:
        return known[code]
    return Cause.KILLED if code > 128 else Cause.ERROR


def disruption(pod: dict[str, Any]) -> Cause | None:
    """What the control plane says it did to the pod, from its DisruptionTarget condition."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            reasons = {
                "PreemptionByScheduler": Cause.PREEMPTED,
                "DeletionByTaintManager": Cause.NODE_LOST,
                "DeletionByPodGC": Cause.NODE_LOST,
            }
            return reasons.get(condition.get("reason", ""), Cause.EVICTED)
    return None


def _last_words(message: str) -> dict[str, Any]:
    """The launcher's JSON; for any other program the end of its log (FallbackToLogsOnError), line by line."""
    try:
        said = json.loads(message)
    except ValueError:
        said = None
    if isinstance(said, dict) and "cause" in said:
        return said
    lines = [line for line in message.splitlines() if line.strip()]
    return {"lines": lines, "message": lines[-1] if lines else ""}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None

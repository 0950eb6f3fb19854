"""What `spec.runPolicy.schedulingPolicy` says: who decides when a gang's pods are made, in what order, and for how long it may
wait for its nodes then.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from trainwright.api.model import Model, Name, ObjectName

SCHEDULE_TIMEOUT_SECONDS = 120


class ProviderName(StrEnum):
    """Who decides when the pods of a gang are made."""

    NONE = "none"
    CAPACITY = "capacity"
    NATIVE = "native"
    VOLCANO = "volcano"
    COSCHEDULING = "coscheduling"
    KAI = "kai"
    KUEUE = "kueue"


NEED_QUEUE = (ProviderName.KAI, ProviderName.KUEUE)
"""Providers that take no job without the name of a queue."""


class SchedulingPolicy(Model):
    """When the gang's pods are made, and who goes first. Fixed once the job exists."""

    provider: ProviderName | None = Field(
        default=None,
        description=(
            "none: pods are made at once and left to the cluster's scheduler, one by one. capacity: when all of them fit on the "
            "nodes there are, and each for its node; the others wait in a queue. native, volcano, coscheduling, kai, "
            "kueue: when Kubernetes' own gang scheduling, Volcano, the coscheduling plugin, KAI or Kueue says so, where the "
            "cluster has it. "
            "Unset: what the operator's --scheduler says; where that is auto, capacity unless another decides over room."
        ),
    )
    queue: Name | None = Field(
        default=None,
        description=(
            "Name under which the job is counted and shown while it waits. capacity has one order for all queues; of volcano and "
            "kai it is a Queue, of kueue a LocalQueue. kai and kueue can't do without."
        ),
    )
    priority_class: ObjectName | None = Field(
        default=None,
        description=(
            "PriorityClass of the job and of its workers' pods. With capacity, jobs of higher priority go first and, unless the "
            "class says Never, take the room of lower ones, which save a checkpoint and wait."
        ),
    )
    schedule_timeout_seconds: int = Field(
        default=SCHEDULE_TIMEOUT_SECONDS,
        ge=1,
        le=86400,
        description=(
            "With capacity: a gang whose pods have not all got their node this long after they were made is taken back and waits "
            "again; it doesn't count against backoffLimit. With coscheduling: what its PodGroup says."
        ),
    )

"""Events on our objects. Best effort: nothing suffers when one can't be sent."""

from __future__ import annotations

import logging

from trainwright.cluster.port import EVENTS, AlreadyExists, Cluster, ClusterError, Resource
from trainwright.observe.times import rfc3339
from trainwright.plan.types import Event

log = logging.getLogger(__name__)


async def tell(cluster: Cluster, resource: Resource, namespace: str, name: str, uid: str, event: Event, now: float) -> None:
    """Send an event on one object; one that was sent before is not sent again."""
    when = rfc3339(now)
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{uid[:8]}.{event.key}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "name": name,
            "namespace": namespace,
            "uid": uid,
        },
        "type": "Warning" if event.reason.warning else "Normal",
        "reason": event.reason.value,
        "message": event.message[:1024],
        "source": {"component": "trainwright"},
        "reportingComponent": "trainwright.dev/operator",
        "reportingInstance": "trainwright",
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }
    try:
        await cluster.create(EVENTS, body)
    except AlreadyExists:
        log.debug("event %s was sent before", event.key)
    except ClusterError as error:
        log.warning("event %s not sent: %s", event.reason, error)

"""Times as the API writes them and as we count them: RFC 3339 in UTC, and seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def seconds(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for none, and for what is not a time."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def rfc3339(time: float) -> str:
    """`2026-11-21T09:00:00Z`: whole seconds, as Kubernetes writes them."""
    return datetime.fromtimestamp(int(time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(time: float) -> str:
    """`2026-11-21T09:00:00.000000Z`: with microseconds, as Kubernetes writes the times of leases."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

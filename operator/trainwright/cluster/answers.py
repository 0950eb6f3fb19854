"""What an API server's HTTP answer is in the port's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trainwright.cluster.port import AlreadyExists, ClusterError, Conflict, Forbidden, Gone, Invalid, NotFound


def answered_error(code: int, body: str, headers: Mapping[str, str], *, creating: bool = False) -> ClusterError:
    """The port's error for an HTTP answer, with the API server's own message."""
    reason = ""
    try:
        answer: Any = json.loads(body)
        message, reason = str(answer.get("message") or body), str(answer.get("reason") or "")
    except (ValueError, AttributeError):
        message = body.strip() or f"HTTP {code}"
    retry_after = headers.get("Retry-After", "")
    kinds: dict[int, type[ClusterError]] = {404: NotFound, 409: Conflict, 410: Gone, 400: Invalid, 422: Invalid, 403: Forbidden}
    kind = (
        AlreadyExists
        if code == 409 and (reason == "AlreadyExists" or (creating and not reason))
        else kinds.get(code, ClusterError)
    )
    return kind(message, status=code, retry_after=float(retry_after) if retry_after.isdigit() else None)

"""What the operator writes to its log: readable lines or JSON, each with the job that it is about."""

from __future__ import annotations

import contextvars
import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

JOB: contextvars.ContextVar[str] = contextvars.ContextVar("job", default="")
"""Key of the job that the current task works on, as namespace/name."""


def configure(level: str, style: Literal["text", "json"]) -> None:
    """Set up logging for the process, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_with_job)
    if style == "json":
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}{job}",
                style="{",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
                datefmt="%Y-%m-%dT%H:%M:%S%z",
            )
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(about)s%(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)


def _with_job(record: logging.LogRecord) -> bool:
    job = JOB.get()
    record.__dict__ |= {"job": job, "about": f"{job}: " if job else ""}
    return True

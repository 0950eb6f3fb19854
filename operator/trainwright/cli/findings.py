"""What `doctor` says: one finding a check, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`check` is the stable name of what was looked at; `fix` is empty where all is well."""

    check: str
    level: Level
    message: str
    fix: str = ""

    def wire(self) -> dict[str, str | None]:
        return {"check": self.check, "level": self.level.value, "message": self.message, "fix": self.fix or None}


def ok(check: str, message: str) -> Finding:
    return Finding(check=check, level=Level.OK, message=message)


def warning(check: str, message: str, fix: str) -> Finding:
    return Finding(check=check, level=Level.WARNING, message=message, fix=fix)


def problem(check: str, message: str, fix: str) -> Finding:
    return Finding(check=check, level=Level.PROBLEM, message=message, fix=fix)

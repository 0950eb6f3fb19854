"""What the publisher refuses: cases that trying again would not mend."""

from __future__ import annotations

import enum

EXIT_REFUSED = 3
EXIT_FAILED = 1


class Reason(enum.StrEnum):
    """The `reason` in the last words."""

    NO_ARTIFACT = "NoArtifact"
    DAMAGED = "Damaged"
    NOT_SIGNED = "NotSigned"
    BAD_SIGNATURE = "BadSignature"
    WRONG_SERVER = "WrongServer"
    DIGEST_CHANGED = "DigestChanged"
    VERSION_TAKEN = "VersionTaken"
    NOT_OURS = "NotOurs"
    FAILED = "Failed"


class Refused(Exception):
    """The message is one line, for whoever reads the status of a ModelDeployment; `facts` are for the operator."""

    def __init__(self, reason: Reason, message: str, **facts: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.facts = facts


class Failed(Exception):
    """It did not work out, and may when it is tried again."""

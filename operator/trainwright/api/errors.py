"""What is wrong with a job that a user wrote. A module of its own: to name these errors takes no models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with an object: `field` as a user would write it (`spec.env[2].name`), and what would be accepted."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidSpec(ValueError):
    """A TrainingJob that is refused, with every reason at once."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors

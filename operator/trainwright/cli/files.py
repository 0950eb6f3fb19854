"""TrainingJobs out of YAML files, checked before anything is sent or started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from trainwright.api.errors import FieldError, InvalidSpec
from trainwright.api.job import KIND
from trainwright.api.kinds import KINDS
from trainwright.api.recipes import problems
from trainwright.cli.app import UserError

MAX_NODES = 50_000
MAX_DEPTH = 100


class _TooMuch(yaml.YAMLError):
    """More than a file of objects may hold."""


class _Loader(yaml.SafeLoader):
    """Plain YAML of a bounded size. Each alias counts as much as it stands for: nine lines of them can mean a billion values."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0
        self._of_anchor: dict[str | None, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor = getattr(event, "anchor", None)
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and anchor in self.anchors and anchor not in self._of_anchor:
            raise _TooMuch(f"line {event.start_mark.line + 1}: *{anchor} is inside of itself")
        if not is_alias:
            self._of_anchor.pop(anchor, None)
        before = self._nodes
        self._nodes += self._of_anchor.get(anchor, 1) if is_alias else 1
        self._depth += 1
        if self._nodes > MAX_NODES or self._depth > MAX_DEPTH:
            limit = f"at most {MAX_NODES} values, aliases written out, in at most {MAX_DEPTH} levels are accepted in a file"
            raise _TooMuch(f"line {event.start_mark.line + 1}: {limit}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None and not is_alias:
            self._of_anchor[anchor] = self._nodes - before
        return node


def read_objects(path: Path) -> list[dict[str, Any]]:
    """All objects of a file (`-`: stdin), jobs checked. Raises `UserError` or `InvalidSpec` naming what is wrong."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    try:
        loaded = yaml.load_all(text, _Loader)
        documents = [document for document in loaded if document is not None]
    except _TooMuch as error:
        raise UserError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not documents:
        raise UserError(f"{path} holds no objects")
    wrong: list[FieldError] = []
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict) or "kind" not in document:
            raise UserError(f"{path}: every document needs apiVersion, kind and metadata; found {str(document)[:80]!r}")
        if (kind := KINDS.get(document["kind"])) is not None:
            try:
                kind.check(document)
            except InvalidSpec as error:
                wrong += error.errors
            else:
                wrong += problems(document["spec"]) if document["kind"] == KIND else []
    if wrong:
        raise InvalidSpec(wrong)
    return documents


def one_job(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The file's one TrainingJob, and the other objects beside it."""
    objects = read_objects(path)
    jobs = [one for one in objects if one["kind"] == KIND]
    if len(jobs) != 1:
        raise UserError(f"{path} holds {len(jobs)} TrainingJobs; one is needed")
    return jobs[0], [one for one in objects if one["kind"] != KIND]

"""TrainingJobs out of YAML files, checked before anything is sent or started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from trainwright.api.errors import FieldError, InvalidJob
from trainwright.api.job import KIND, check
from trainwright.api.recipes import problems
from trainwright.cli.app import UserError


def read_objects(path: Path) -> list[dict[str, Any]]:
    """All objects of a file (`-`: stdin), jobs checked. Raises `UserError` or `InvalidJob` naming what is wrong."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not documents:
        raise UserError(f"{path} holds no objects")
    wrong: list[FieldError] = []
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict) or "kind" not in document:
            raise UserError(f"{path}: every document needs apiVersion, kind and metadata; found {str(document)[:80]!r}")
        if document["kind"] == KIND:
            try:
                check(document)
            except InvalidJob as error:
                wrong += error.errors
            else:
                wrong += problems(document["spec"])
    if wrong:
        raise InvalidJob(wrong)
    return documents


def one_job(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The file's one TrainingJob, and the other objects beside it."""
    objects = read_objects(path)
    jobs = [one for one in objects if one["kind"] == KIND]
    if len(jobs) != 1:
        raise UserError(f"{path} holds {len(jobs)} TrainingJobs; one is needed")
    return jobs[0], [one for one in objects if one["kind"] != KIND]

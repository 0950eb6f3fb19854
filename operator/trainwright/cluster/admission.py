"""What an API server does to a TrainingJob before it stores it: check, default, refuse changes to what is fixed.

The in-memory adapter uses it with the very models, rules and schema that the CRD is generated from.
"""

from __future__ import annotations

import copy
from typing import Any

from trainwright.api.crd import structural
from trainwright.api.errors import InvalidJob
from trainwright.api.job import KIND, check
from trainwright.api.rules import changed
from trainwright.api.spec import TrainingJobSpec
from trainwright.cluster.port import Invalid, Object

_SCHEMA = structural(TrainingJobSpec)


def training_job(new: Object, old: Object | None) -> Object:
    """The job to store. Raises `Invalid` with every reason, as an API server words it."""
    try:
        check(new)
    except InvalidJob as error:
        raise Invalid(_refusal(new, [str(one) for one in error.errors])) from None
    stored = {**new, "spec": _defaulted(new["spec"], _SCHEMA)}
    if old is not None and (fixed := list(changed(old["spec"], stored["spec"]))):
        raise Invalid(_refusal(new, [f"{one.field}: {one.message}" for one in fixed]))
    return stored


ADMISSION = {KIND: training_job}


def _refusal(job: Object, reasons: list[str]) -> str:
    name = job.get("metadata", {}).get("name", "")
    return f'{KIND} "{name}" is invalid: {"; ".join(reasons)}'


def _defaulted(value: Any, schema: dict[str, Any]) -> Any:
    """Fill in what the schema has a default for, at every depth, as structural defaulting does."""
    if isinstance(value, list) and "items" in schema:
        return [_defaulted(item, schema["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    result = {**value}
    for name, below in schema.get("properties", {}).items():
        if name not in result and "default" in below:
            result[name] = copy.deepcopy(below["default"])
        if name in result:
            result[name] = _defaulted(result[name], below)
    return result

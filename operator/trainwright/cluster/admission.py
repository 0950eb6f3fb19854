"""What an API server does to an object of ours before it stores it: check, default, refuse changes to what is fixed.

The in-memory adapter uses it with the very models, rules and schema that the CRD is generated from.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from trainwright.api.crd import structural
from trainwright.api.errors import InvalidSpec
from trainwright.api.kinds import KINDS, Kind
from trainwright.cluster.port import Invalid, Object

_SCHEMAS = {kind.name: structural(kind.spec) for kind in KINDS.values()}


def admitted(kind: Kind, new: Object, old: Object | None) -> Object:
    """The object to store. Raises `Invalid` with every reason, as an API server words it."""
    try:
        kind.check(new)
    except InvalidSpec as error:
        raise Invalid(_refusal(new, [str(one) for one in error.errors])) from None
    stored = {**new, "spec": _defaulted(new["spec"], _SCHEMAS[kind.name])}
    if old is not None and (fixed := list(kind.changed(old["spec"], stored["spec"]))):
        raise Invalid(_refusal(new, [f"{one.field}: {one.message}" for one in fixed]))
    return stored


ADMISSION = {kind.name: partial(admitted, kind) for kind in KINDS.values()}


def _refusal(obj: Object, reasons: list[str]) -> str:
    name = obj.get("metadata", {}).get("name", "")
    return f'{obj["kind"]} "{name}" is invalid: {"; ".join(reasons)}'


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

"""A pod that is made for one node: how that is written into it, and read again. The scheduler binds it there or nowhere."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def pin(node: str) -> Object:
    """What is added to the pod. By the node's name and not its hostname label, which somebody may have changed."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    return {"spec": {"affinity": {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": [{"matchFields": [field]}]}}}}}


def pinned_to(pod: Object) -> str:
    """The node that a pod is made for; empty when there is none such."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    for field in terms[0].get("matchFields") or () if len(terms) == 1 else ():
        if field.get("key") == "metadata.name" and field.get("operator") == "In" and len(field.get("values") or ()) == 1:
            return str(field["values"][0])
    return ""

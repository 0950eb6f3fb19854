"""What every pod that we make has: the restricted Pod Security Standard, a root file system that nobody writes to, and no way to
the API server.
"""

from __future__ import annotations

from typing import Any

from trainwright.api.names import TERMINATION_LOG

NON_ROOT = 65532
SCRATCH_DIR = "/tmp"  # noqa: S108 - inside a container
_CONTAINER: dict[str, Any] = {
    "terminationMessagePath": TERMINATION_LOG,
    "terminationMessagePolicy": "FallbackToLogsOnError",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
}
_POD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": NON_ROOT,
        "runAsGroup": NON_ROOT,
        "fsGroup": NON_ROOT,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}


def confined(spec: dict[str, Any]) -> dict[str, Any]:
    """A pod's spec, confined: whatever it says of these things is replaced. Its containers may write to /tmp."""
    steps: dict[str, Any] = {
        key: [_confined(one) for one in spec[key]] for key in ("initContainers", "containers") if key in spec
    }
    return {**spec, **_POD, **steps, "volumes": [*spec.get("volumes", []), {"name": "scratch", "emptyDir": {}}]}


def _confined(container: dict[str, Any]) -> dict[str, Any]:
    mounts = [*container.get("volumeMounts", []), {"name": "scratch", "mountPath": SCRATCH_DIR}]
    return {**container, **_CONTAINER, "volumeMounts": mounts}

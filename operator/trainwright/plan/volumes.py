"""What a worker sees of disks: workspace, configuration, code, data, shared memory."""

from __future__ import annotations

from typing import Any

from trainwright.api.job import TrainingJob
from trainwright.api.names import CODE_DIR, CONFIG_ANNOTATION, CONFIG_DIR, CONFIG_FILE, DATA_DIR, WORKSPACE_DIR, claim_name
from trainwright.api.spec import Code, Data

Volume = dict[str, Any]
Mount = dict[str, Any]


def volumes(job: TrainingJob) -> tuple[list[Volume], list[Mount]]:
    """Volumes of the pod and mounts of its worker. A claim of the user's may serve many jobs, each in a folder of its own."""
    spec = job.spec
    made: list[Volume] = [workspace_volume(job)]
    mounts: list[Mount] = [workspace_mount(job)]
    if spec.recipe:
        item = {"path": CONFIG_FILE, "fieldRef": {"fieldPath": f"metadata.annotations['{CONFIG_ANNOTATION}']"}}
        made.append({"name": "config", "downwardAPI": {"items": [item]}})
        mounts.append({"name": "config", "mountPath": CONFIG_DIR, "readOnly": True})
    if spec.code:
        made.append({"name": "code", **_source(spec.code)})
        mounts.append(_mount("code", CODE_DIR, spec.code.path))
    for entry in spec.data:
        if entry.builtin:
            continue
        if entry.uri:
            mounts.append(_mount("workspace", data_place(entry), f"{_folder(job)}data/{entry.name}"))
            continue
        name = f"data-{entry.name}"
        made.append({"name": name, **_source(entry)})
        mounts.append(_mount(name, data_place(entry), entry.path))
    if spec.resources.shared_memory:
        size = spec.resources.shared_memory
        made.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108 - the kernel's name for it
    return made, mounts


def workspace_volume(job: TrainingJob) -> Volume:
    if job.spec.workspace.uri:
        return {"name": "workspace", "emptyDir": {}}
    claim = job.spec.workspace.claim or claim_name(job.name)
    return {"name": "workspace", "persistentVolumeClaim": {"claimName": claim}}


def workspace_mount(job: TrainingJob) -> Mount:
    folder = _folder(job).rstrip("/")
    return {"name": "workspace", "mountPath": WORKSPACE_DIR} | ({"subPath": folder} if folder else {})


def data_place(entry: Data) -> str:
    """Where a worker finds the entry."""
    return entry.mount_path or f"{DATA_DIR}/{entry.name}"


def _folder(job: TrainingJob) -> str:
    """The job's folder in its workspace's claim, as a prefix."""
    return f"{job.name}/" if job.spec.workspace.claim else ""


def _source(source: Code | Data) -> dict[str, Any]:
    if source.config_map:
        return {"configMap": {"name": source.config_map}}
    return {"persistentVolumeClaim": {"claimName": source.claim, "readOnly": True}}


def _mount(volume: str, path: str, folder: str | None) -> Mount:
    return {"name": volume, "mountPath": path, "readOnly": True} | ({"subPath": folder} if folder else {})

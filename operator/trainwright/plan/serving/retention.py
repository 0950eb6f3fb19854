"""Which versions' files go: those beyond `keepVersions`, and those that were never live and won't be."""

from __future__ import annotations

from trainwright.api.deployment import ModelDeployment
from trainwright.api.deployment_status import ModelDeploymentStatus, Version, VersionState


def to_remove(deployment: ModelDeployment, status: ModelDeploymentStatus) -> list[Version]:
    """Versions whose files go, oldest first. Never those of the live, the previous, a pinned one, or the one on its way."""
    stay = {status.live, status.previous, deployment.spec.pin, status.candidate.version if status.candidate else None}
    have_files = sorted((one for one in status.versions if one.record is not None), key=lambda one: one.version)
    servable = [one for one in have_files if one.state.servable]
    beyond = servable[: max(0, len(servable) - deployment.spec.keep_versions)]
    never = [one for one in have_files if one.state in (VersionState.REFUSED, VersionState.ROLLED_BACK)]
    return [one for one in have_files if one in (*beyond, *never) and one.version not in stay]

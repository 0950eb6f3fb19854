"""What to do about an answer of the API server: the advice that follows its own words."""

from __future__ import annotations

from trainwright.cluster.port import ClusterError, Forbidden, NotFound

CRD_FILES = "manifests/crds/"
INSTALL_CRD = f"install it: kubectl apply -f {CRD_FILES}"


def advice(error: ClusterError) -> str:
    """One sentence, or nothing where the error says it all."""
    if isinstance(error, Forbidden):
        return "ask whoever runs the cluster for that right; `trainwright doctor` lists what you may and may not do"
    if no_such_kind(error):
        return f"this cluster has no TrainingJobs; {INSTALL_CRD}"
    if error.status == 401:
        return "the cluster does not accept your credentials: log in again, or choose another --context"
    if error.status == 0:
        return "is the cluster up, and is it the one you mean (--context, --kubeconfig)? `trainwright up` mends the local twin"
    return ""


def no_such_kind(error: ClusterError) -> bool:
    """Whether the API server doesn't serve the kind at all: it then has no object to name in its answer."""
    return isinstance(error, NotFound) and ("page not found" in error.message or "could not find" in error.message)

"""Last of all: what was asked of the API server in this whole suite, by its audit log, beside what the operator's Role grants.

That each verb granted is used, tests/chart shows in a life in which everything happens once; here it is what real nodes bring about.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.installed import NAMESPACE, Installed

CHILDREN = (
    *("services", "configmaps", "serviceaccounts", "persistentvolumeclaims", "pods"),
    *("apps/deployments", "batch/jobs", "networking.k8s.io/networkpolicies"),
)
OTHER_SCHEDULERS = ("scheduling.volcano.sh", "scheduling.x-k8s.io", "scheduling.run.ai")
# Provoked one by one in tests/chart/test_chart_rbac.py: a name that is taken (get), something of the operator's making that somebody
# else changed (patch), routes of a Gateway and schedulers, which are not here, and what the API server looks at by itself.
RARE = {(verb, of) for verb in ("get", "patch") for of in CHILDREN} | {
    *((verb, "gateway.networking.k8s.io/httproutes") for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *(("get", f"trainwright.dev/{of}") for of in ("trainingjobs", "modeldeployments")),
    *(("update", f"trainwright.dev/{of}/finalizers") for of in ("trainingjobs", "modeldeployments")),
    ("delete", "apps/deployments"),
    *(("get", f"scheduling.k8s.io/{of}") for of in ("workloads", "podgroups")),
    *((verb, f"{of}/podgroups") for verb in ("get", "list", "watch", "create", "delete") for of in OTHER_SCHEDULERS),
    *((verb, "kueue.x-k8s.io/workloads") for verb in ("get", "list", "watch", "create", "patch")),
    ("patch", "kueue.x-k8s.io/workloads/status"),
    *((verb, "kueue.x-k8s.io/resourceflavors") for verb in ("list", "watch")),
}

# Kubernetes lets every account ask what it may do.
EVERYBODY_S = {("create", "authorization.k8s.io/selfsubjectaccessreviews")}


@pytest.fixture
def events(release: Installed) -> list[dict[str, Any]]:
    """Every request of a service account for some resource."""
    found = [json.loads(line) for line in release.cluster.audit_log.read_text().splitlines()]
    return [one for one in found if one.get("objectRef", {}).get("resource")]


def asked(event: dict[str, Any]) -> tuple[str, str]:
    """Verb, and resource as a Role names it, with its group."""
    ref = event["objectRef"]
    return event["verb"], "/".join(filter(None, (ref.get("apiGroup", ""), ref["resource"], ref.get("subresource", ""))))


def test_everything_it_asked_for_is_granted_and_no_secret_was_read(release: Installed, events: list[dict[str, Any]]) -> None:
    (deployment,) = release.kubectl.json("get", "deployments", "-n", NAMESPACE)["items"]
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    mine = [one for one in events if one["user"]["username"] == user]
    assert len(mine) > 200, "the whole suite ran before"
    forbidden = {asked(one) for one in mine if one["annotations"]["authorization.k8s.io/decision"] != "allow"}
    assert forbidden == set()
    assert not [one for one in mine if one["objectRef"]["resource"] == "secrets"]
    role = release.kubectl.json("get", "clusterrole", deployment["metadata"]["name"])
    granted = {
        (verb, "/".join(filter(None, (group, resource))))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    used = {asked(one) for one in mine} - EVERYBODY_S
    assert used <= granted, used - granted
    assert granted - used <= RARE, granted - used - RARE


def test_nobody_s_pod_was_refused_by_a_standard_or_a_policy(events: list[dict[str, Any]]) -> None:
    """All of this suite's namespaces enforce *restricted*, and the operator's policy watches over what it makes."""
    pods = [one for one in events if asked(one) == ("create", "pods")]
    makers = {one["user"]["username"].rpartition(":")[2] for one in pods if one["responseStatus"]["code"] == 201}
    assert {"trainwright-operator", "replicaset-controller", "job-controller"} <= makers, "workers, servers and gateways, tasks"
    said = [one["responseStatus"].get("message", "") for one in pods if one["responseStatus"]["code"] != 201]
    assert not [message for message in said if "PodSecurity" in message or "ValidatingAdmissionPolicy" in message]

"""The life of a release: an upgrade in the middle of a training, and what is left when it is gone."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

import chart
from support.installed import NAMESPACE, RELEASE, VALUES, Installed, bare
from support.jobs import apply, sample, succeeded, until
from support.waiting import eventually


@pytest.mark.timeout(400)
async def test_a_training_goes_on_over_an_upgrade_and_jobs_outlive_the_release(release: Installed, space: str) -> None:
    job = sample("digits")
    job["spec"]["recipe"]["config"] |= {"epochs": 8, "step_delay_seconds": 0.1}
    apply(release, space, job)
    await until(release, space, lambda status: int(status.get("progress", {}).get("step") or 0) >= 5, within=120)
    (before,) = release.operator_pods()

    values = {**VALUES, "operator": {**VALUES["operator"], "logLevel": "DEBUG"}}
    release.install(values=values)
    history = yaml.safe_load(release.helm("history", RELEASE, "-n", NAMESPACE, "-o", "yaml"))
    assert [one["status"] for one in history] == ["superseded", "deployed"]
    (after,) = await eventually(lambda: len(found := release.operator_pods()) == 1 and found, within=60, every=0.5)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    status = await succeeded(release, space, within=240)
    assert status["attempt"] == 1, "the workers never noticed"

    release.helm("uninstall", RELEASE, "-n", NAMESPACE, "--wait")
    assert release.kubectl("get", "tj", "digits", "-n", space, "-o", "jsonpath={.status.phase}") == "Succeeded"
    assert release.kubectl("get", "pvc", "-n", space, "-o", "name").strip() == "persistentvolumeclaim/digits-workspace"
    kinds = "all,sa,role,rolebinding,configmap,secret,networkpolicy"
    cluster_s = {"serviceaccount/default", "configmap/kube-root-ca.crt"}

    def nothing_left() -> bool:
        return set(release.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name").split()) <= cluster_s

    await eventually(nothing_left, within=60, every=0.5, what="the release is gone, its pods with it")
    wide = "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"
    assert "trainwright" not in release.kubectl("get", wide, "-o", "name")
    apply(release, space, bare("patient", "true"))
    release.install(values=VALUES)
    assert (await release.ends(space, "patient"))["phase"] == "Succeeded", "what waited for an operator is done by the next"


@pytest.mark.timeout(200)
async def test_an_operator_of_one_namespace_needs_no_right_beyond_it(release: Installed, space: str, tmp_path: Any) -> None:
    release.helm("uninstall", RELEASE, "-n", NAMESPACE, "--wait")
    values = {**VALUES, "scope": "namespace", "crds": {"install": False}}
    (tmp_path / "values.json").write_text(json.dumps(values))
    words = ("-n", space, "-f", tmp_path / "values.json", "--wait", "--timeout", "110s")
    release.helm("install", "mine", chart.CHART, *words)
    try:
        apply(release, space, bare("small", "true"))
        assert (await release.ends(space, "small"))["phase"] == "Succeeded"
        assert "mine" not in release.kubectl("get", "clusterrole,clusterrolebinding", "-o", "name")
    finally:
        release.helm("uninstall", "mine", "-n", space, "--wait")
        release.install(values=VALUES)

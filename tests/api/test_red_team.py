"""What an author asks for beyond what is theirs, and is refused: by a real API server that has nothing but the definitions of our
kinds, and in the same place by the operator and the command line, which check what they read once more.

What is taken and does no harm is in test_red_team_harmless.py.
"""

from __future__ import annotations

import resource
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.red_team import RIGHTS, Author, attempt, named, serve
from support.twin import TRAINWRIGHT, Kubectl
from trainwright.api.errors import InvalidSpec
from trainwright.api.kinds import KINDS
from trainwright.local.controlplane import ControlPlane

Object = dict[str, Any]
MANY = 100_000


@pytest.fixture(scope="module")
def author(plane: tuple[ControlPlane, Kubectl]) -> Iterator[Author]:
    kubectl, name = plane[1], f"t-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    kubectl("apply", "-n", name, "-f", "-", stdin=RIGHTS)
    yield Author(kubectl, name)
    kubectl("delete", "namespace", name, "--wait=false")


def env(name: str, **source: Any) -> Object:
    return attempt(env=[{"name": name, **(source or {"value": "1"})}])


def data(**entry: Any) -> Object:
    return attempt(data=[{"name": "train", **entry}])


def offer(**entry: Any) -> Object:
    return serve(offers=[{"name": "mine", **entry}])


def offer_env(name: str) -> Object:
    return offer(uri="s3://bucket/a", env=[{"name": name, "value": "/models/versions/1"}])


def secret(**reference: Any) -> Object:
    return env("A", valueFrom={"secretKeyRef": {"name": "token", "key": "token", **reference}})


# What is sent, and the field that the refusal names.
UNKNOWN = {
    "the node's network": (attempt(hostNetwork=True), "spec.hostNetwork"),
    "the node's processes": (attempt(hostPID=True), "spec.hostPID"),
    "privilege": (attempt(securityContext={"privileged": True}), "spec.securityContext"),
    "privilege in resources": (attempt(resources={"privileged": True}), "spec.resources.privileged"),
    "a folder of the node": (attempt(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), "spec.volumes"),
    "data in a folder of the node": (data(hostPath="/"), "spec.data[0].hostPath"),
    "code in a folder of the node": (attempt(code={"hostPath": "/"}), "spec.code.hostPath"),
    "a workspace in a folder of the node": (attempt(workspace={"hostPath": "/"}), "spec.workspace.hostPath"),
    "another account": (attempt(serviceAccountName="operator"), "spec.serviceAccountName"),
    "the account's token": (attempt(automountServiceAccountToken=True), "spec.automountServiceAccountToken"),
    "a pod of one's own making": (attempt(template={"spec": {"hostNetwork": True}}), "spec.template"),
    "a node of one's own choice": (attempt(placement={"nodeName": "control-plane"}), "spec.placement.nodeName"),
    "a secret of another namespace": (secret(namespace="kube-system"), "spec.env[0].valueFrom.secretKeyRef.namespace"),
    "data of another namespace": (data(claim="a", namespace="team-b"), "spec.data[0].namespace"),
    "a model of another namespace": (attempt(publish={"deployment": "digits", "namespace": "team-b"}), "spec.publish.namespace"),
    "all variables of a secret": (attempt(envFrom=[{"secretRef": {"name": "a"}}]), "spec.envFrom"),
    "a server with the operator's account": (serve(serviceAccountName="operator"), "spec.serviceAccountName"),
    "a server of another command": (serve(command=["sh"]), "spec.command"),
    "a gateway with the node's network": (serve(gateway={"hostNetwork": True}), "spec.gateway.hostNetwork"),
    "another publisher": (serve(publisher={"image": "evil"}), "spec.publisher"),
    "an offer of another namespace": (offer(job="digits", namespace="team-b"), "spec.offers[0].namespace"),
    "a key of another namespace": (
        serve(verify={"publicKey": {"secret": {"name": "a", "key": "b", "namespace": "team-b"}}}),
        "spec.verify.publicKey.secret.namespace",
    ),
}

REFUSED: dict[str, tuple[Object, str]] = {
    # Names and paths
    "a secret by a path": (secret(name="../kube-system/token"), "spec.env[0].valueFrom.secretKeyRef.name"),
    "a key that is a path": (secret(key="../../token"), "spec.env[0].valueFrom.secretKeyRef.key"),
    "a config map by a path": (attempt(code={"configMap": "../kube-system/a"}), "spec.code.configMap"),
    "a claim by a path": (data(claim="team-b/models"), "spec.data[0].claim"),
    "a workspace by a path": (attempt(workspace={"claim": "../models"}), "spec.workspace.claim"),
    "a folder above the claim": (data(claim="a", path="../../b"), "spec.data[0].path"),
    "a folder above, in the middle": (data(claim="a", path="a/../../b"), "spec.data[0].path"),
    "a folder above, encoded": (data(claim="a", path="%2e%2e/b"), "spec.data[0].path"),
    "an absolute folder": (data(claim="a", path="/etc"), "spec.data[0].path"),
    "code from above": (attempt(code={"claim": "a", "path": "../b"}), "spec.code.path"),
    "data over the account's token": (data(claim="a", mountPath="/var/run/secrets/kubernetes.io/serviceaccount"), "spec.data[0].mountPath"),
    "data over the program's libraries": (data(claim="a", mountPath="/usr/lib"), "spec.data[0].mountPath"),
    "data over devices": (data(claim="a", mountPath="/dev/shm"), "spec.data[0].mountPath"),
    "data at a place that climbs": (data(claim="a", mountPath="/mnt/../etc"), "spec.data[0].mountPath"),
    "data whose name is a path": (attempt(data=[{"name": "../../artifacts", "uri": "https://host/a"}]), "spec.data[0].name"),
    "data from a plain path": (data(uri="/etc/shadow"), "spec.data[0].uri"),
    "a workspace at a plain path": (attempt(workspace={"uri": "/var/lib/kubelet"}), "spec.workspace.uri"),
    "a workspace at the metadata service": (attempt(workspace={"uri": "http://169.254.169.254/latest"}), "spec.workspace.uri"),
    "a recipe that is a path": (attempt(recipe={"name": "../../bin/sh"}), "spec.recipe.name"),
    "a module that is a path": (attempt(entrypoint={"module": "../train"}), "spec.entrypoint.module"),
    "a module that is code": (attempt(entrypoint={"module": "os;import pty"}), "spec.entrypoint.module"),
    "a function that is code": (attempt(entrypoint={"module": "a", "function": "f) or exec('x'"}), "spec.entrypoint.function"),
    "a model of another namespace by a path": (attempt(publish={"deployment": "team-b/digits"}), "spec.publish.deployment"),
    "a model above": (attempt(publish={"deployment": "../digits"}), "spec.publish.deployment"),
    "an image with a flag": (attempt(image="busybox --privileged"), "spec.image"),
    "an image of two lines": (attempt(image="busybox\nhostNetwork: true"), "spec.image"),
    "a topology that is no label": (attempt(placement={"topologyKey": "a b\nc"}), "spec.placement.topologyKey"),
    "a priority by a path": (attempt(placement={"priorityClassName": "../system"}), "spec.placement.priorityClassName"),
    "a claim of another team, offered": (offer(claim="team-b/models"), "spec.offers[0].claim"),
    "a job of another team, offered": (offer(job="team-b/digits"), "spec.offers[0].job"),
    "a folder above the claim, offered": (offer(claim="a", path="../.."), "spec.offers[0].path"),
    "the publisher's disk, offered": (offer(uri="file:///models/versions/1"), "spec.offers[0].uri"),
    "the publisher's disk behind another scheme": (offer(uri="zip://*::file:///keys/public.pem"), "spec.offers[0].uri"),
    "a plain path, offered": (offer(uri="/models"), "spec.offers[0].uri"),
    "a storage by a path": (serve(storage={"claim": "../other-models"}), "spec.storage.claim"),
    "a key by a path": (serve(verify={"publicKey": {"secret": {"name": "kube-system/a", "key": "k"}}}), "spec.verify.publicKey.secret.name"),
    "a key's file by a path": (serve(verify={"publicKey": {"configMap": {"name": "a", "key": "../k"}}}), "spec.verify.publicKey.configMap.key"),
    "a header with a second one in it": (serve(gateway={"stickyHeader": "x\r\nauthorization: a"}), "spec.gateway.stickyHeader"),
    "all host names of a gateway": (
        serve(server="sklearn", gateway={"httpRoute": {"parent": {"name": "g"}, "hostnames": ["*"]}}), "spec.gateway.httpRoute.hostnames[0]",
    ),
    "a server that is a program": (serve(server="bash"), "spec.server"),
    "a server's image of two lines": (serve(image="a\nb"), "spec.image"),
    "a gateway's image with a flag": (serve(gateway={"image": "a --b"}), "spec.gateway.image"),
    # Environment
    "the identity of another job": (env("TRAINWRIGHT_UID"), "spec.env[0]"),
    "another termination log": (env("TRAINWRIGHT_TERMINATION_LOG"), "spec.env[0]"),
    "another master": (env("MASTER_ADDR"), "spec.env[0]"),
    "another rendezvous": (env("PET_MASTER_ADDR"), "spec.env[0]"),
    "a variable with a value in its name": (env("A=B"), "spec.env[0].name"),
    "a variable of two lines": (env("A\nB"), "spec.env[0].name"),
    "a variable of letters that look alike": (env("PАTH"), "spec.env[0].name"),
    **{
        f"{name} for the publisher": (offer_env(name), "spec.offers[0].env[0]")
        for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "PATH", "HOME", "AWS_CONFIG_FILE", "TRAINWRIGHT_TERMINATION_LOG")
    },
    # Names of objects
    "a name that is a domain": (named(attempt(), "digits.team-b.svc"), "metadata.name"),
    "a name longer than a host's": (named(attempt(), "a" * 51), "metadata.name"),
    "a name of 300 characters": (named(attempt(), "a" * 300), "metadata.name"),
    "a name of letters that look alike": (named(attempt(), "dіgits"), "metadata.name"),
    "a name that climbs": (named(serve(), ".."), "metadata.name"),
    "a name with a path": (named(serve(), "a%2fb"), "metadata.name"),
    "a model's name that leaves no room": (named(serve(), "a" * 41), "metadata.name"),
    # Sizes
    f"{MANY} variables": (attempt(env=[{"name": f"A{n}"} for n in range(MANY)]), "spec.env"),
    f"{MANY} data sets": (attempt(data=[{"name": f"a{n}"} for n in range(MANY)]), "spec.data"),
    f"{MANY} arguments": (attempt(entrypoint={"module": "a", "args": ["a"] * MANY}), "spec.entrypoint.args"),
    f"{MANY} words of a command": (attempt(command=["a"] * MANY), "spec.command"),
    f"{MANY} rules": (attempt(failurePolicy={"rules": [{"action": "Fail", "when": {}}] * 60_000}), "spec.failurePolicy.rules"),
    f"{MANY} exit codes": (attempt(failurePolicy={"rules": [{"action": "Fail", "when": {"exitCodes": [1] * MANY}}]}), "exitCodes"),
    f"{MANY} tolerations": (attempt(placement={"tolerations": [{"key": "a"}] * MANY}), "spec.placement.tolerations"),
    f"{MANY} gates": (serve(gates=[{"metric": "a"}] * MANY), "spec.gates"),
    f"{MANY} offers": (serve(offers=[{"name": f"a{n}"} for n in range(MANY)]), "spec.offers"),
    f"{MANY} steps": (serve(canary={"steps": [{"weight": 1}] * MANY}), "spec.canary.steps"),
    f"{MANY} workers": (attempt(workers=MANY), "spec.workers"),
    f"{MANY} servers": (serve(replicas=MANY), "spec.replicas"),
    f"{MANY} versions kept": (serve(keepVersions=MANY), "spec.keepVersions"),
    "workers beyond any integer": (attempt(workers=2**62), "spec.workers"),
    "an argument of a megabyte": (attempt(entrypoint={"module": "a", "args": ["a" * 2**20]}), "spec.entrypoint.args[0]"),
    "a value of a megabyte": (env("A", value="a" * 2**20), "spec.env[0].value"),
    "an image's name of a megabyte": (attempt(image="a" * 2**20), "spec.image"),
    "an amount that overflows": (attempt(resources={"memory": "9" * 40}), "spec.resources.memory"),
    "an amount below nothing": (attempt(resources={"cpu": "-1"}), "spec.resources.cpu"),
    "a gate's metric that is an expression": (serve(gates=[{"metric": "(a+)+$", "min": 1}]), "spec.gates[0].metric"),
    "a signal that is a command": (attempt(failurePolicy={"rules": [{"action": "Fail", "when": {"signals": ["SIGKILL;id"]}}]}), "signals[0]"),
    "restarts without end": (attempt(runPolicy={"backoffLimit": 2**31 - 1}), "spec.runPolicy.backoffLimit"),
}  # fmt: skip


def test_the_author_may_write_our_kinds_and_nothing_else(author: Author) -> None:
    for what in ("create pods", "get secrets", "create services", "patch trainingjobs --subresource=status"):
        code, said = author.says("auth", "can-i", *what.split())
        assert (code, said.split()[-1]) == (1, "no"), what
    assert author.sends(named(attempt(), "honest"), "--dry-run=server")[0] == 0


@pytest.mark.parametrize("what", UNKNOWN)
def test_a_field_that_there_is_not_is_refused_by_name(author: Author, what: str) -> None:
    raw, field = UNKNOWN[what]
    code, said = author.sends(raw)
    assert code != 0
    assert f'unknown field "{field}"' in said
    with pytest.raises(InvalidSpec) as error:
        KINDS[raw["kind"]].check(raw)
    assert f"{field}: is not a field" in str(error.value)


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_and_the_field_is_named(author: Author, what: str) -> None:
    raw, field = REFUSED[what]
    code, said = author.sends(raw)
    assert code != 0
    assert field in said
    with pytest.raises(InvalidSpec) as error:
        KINDS[raw["kind"]].check(raw)
    assert field in str(error.value)


BOMB = """\
apiVersion: trainwright.dev/v1alpha1
kind: TrainingJob
metadata: {name: evil}
spec:
  framework: torch
  recipe:
    name: image-classification
    config:
      a: &a [x, x, x, x, x, x, x, x, x, x]
""" + "".join(
    f"      {name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HEAD = "apiVersion: trainwright.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: evil}\nspec: "
BOMBS = {
    "a billion aliases": (BOMB, "at most 50000 values, aliases written out"),
    "an alias of what it is in": (HEAD + "&a {framework: torch, recipe: {name: x, config: {a: *a}}}", "*a is inside of itself"),
    "lists in lists": (HEAD + "[" * 10_000, "in at most 100 levels"),
    "a list of 100,000": (HEAD + "{env: [" + "{name: a}, " * MANY + "]}", "at most 50000 values"),
}
# Of address space; what a healthy submit needs is below half of it.
MEMORY = 2 << 30


@pytest.mark.parametrize("command", ["submit", "run"])
@pytest.mark.parametrize("what", BOMBS)
def test_the_command_line_refuses_a_file_that_explodes(tmp_path: Path, what: str, command: str) -> None:
    text, said = BOMBS[what]
    file = tmp_path / "job.yaml"
    file.write_text(text)
    done = subprocess.run(
        [TRAINWRIGHT, command, file],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-500:]
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize("what", ["a billion aliases", "an alias of what it is in"])
def test_kubectl_and_the_api_server_refuse_it_too(author: Author, what: str) -> None:
    code, said = author.says("create", "-f", "-", stdin=BOMBS[what][0])
    assert code != 0
    assert "alias" in said or "contains itself" in said

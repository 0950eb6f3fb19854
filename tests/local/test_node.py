"""The process node of a twin: pods as processes, and what kubectl shows of them."""

from __future__ import annotations

import subprocess
from typing import Any

import psutil
import yaml

from support.twin import RunningTwin
from support.waiting import eventually
from trainwright.local.process import MARK


def pod(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "example", "command": list(command), **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"colour": "blue"}},
        "spec": {"restartPolicy": "Never", "containers": [container], **spec},
    }


def apply(twin: RunningTwin, space: str, *objects: dict[str, Any]) -> None:
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump_all(objects))


def state(twin: RunningTwin, space: str, name: str) -> dict[str, Any]:
    status = twin.kubectl.json("get", "pod", name, "-n", space)["status"]
    statuses = status.get("containerStatuses") or [{"state": {}}]
    return {"phase": status["phase"], "ip": status.get("podIP"), **statuses[0]["state"]}


async def ended(twin: RunningTwin, space: str, name: str) -> dict[str, Any]:
    terminated: dict[str, Any] = await eventually(
        lambda: state(twin, space, name).get("terminated"), within=20, every=0.1, what=f"the end of {name}"
    )
    return terminated


async def running(twin: RunningTwin, space: str, name: str) -> None:
    await eventually(lambda: "running" in state(twin, space, name), within=20, every=0.1, what=f"{name} runs")


async def test_exit_codes_and_signals_are_a_kubelet_s(twin: RunningTwin, space: str) -> None:
    scripts = {"fine": "exit 0", "wrong": "echo oh no >&2; exit 3", "killed": "kill -9 $$", "term": "kill -TERM $$"}
    apply(twin, space, *(pod(name, "sh", "-c", script) for name, script in scripts.items()), pod("absent", "no-such-program"))
    seen = {name: await ended(twin, space, name) for name in [*scripts, "absent"]}
    codes = {name: (end["exitCode"], end["reason"]) for name, end in seen.items()}
    assert codes == {
        "fine": (0, "Completed"),
        "wrong": (3, "Error"),
        "killed": (137, "Error"),
        "term": (143, "Error"),
        "absent": (128, "StartError"),
    }
    phases = {name: state(twin, space, name)["phase"] for name in codes}
    assert phases == {"fine": "Succeeded", "wrong": "Failed", "killed": "Failed", "term": "Failed", "absent": "Failed"}
    assert "no-such-program" in twin.kubectl("logs", "absent", "-n", space)


async def test_termination_messages(twin: RunningTwin, space: str) -> None:
    file = {"terminationMessagePath": "/dev/termination-log"}
    logs = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    said = 'echo noise; echo last words > "$WHERE"; exit 1'
    env = [{"name": "WHERE", "value": "/dev/termination-log"}]
    apply(
        twin,
        space,
        pod("file", "sh", "-c", said, container={**file, "env": env}),
        pod("logs", "sh", "-c", "echo one; echo two; exit 1", container=logs),
        pod("silent", "sh", "-c", "echo one; exit 1"),
        pod("good", "sh", "-c", "echo one", container=logs),
    )
    messages = {name: (await ended(twin, space, name)).get("message", "").strip() for name in ("file", "logs", "silent", "good")}
    assert messages == {"file": "last words", "logs": "one\ntwo", "silent": "", "good": ""}


async def test_environment_volumes_and_arguments(twin: RunningTwin, space: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"a": "from the map", "file.txt": "content"},
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"b": "from the secret"}}
    env = [
        {"name": "PLAIN", "value": "x"},
        {"name": "COMBINED", "value": "$(PLAIN)-$(UNKNOWN)-$$(PLAIN)"},
        {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "b"}}},
        {"name": "MY_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "MY_LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['colour']"}}},
        {"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "MY_CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "PLACES", "value": '{"path": "/data/in", "other": "/data/input"}'},
    ]
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "settings", "items": [{"key": "file.txt", "path": "sub/renamed.txt"}]}},
        {
            "name": "all",
            "projected": {"sources": [{"configMap": {"name": "settings"}}, {"secret": {"name": "hidden"}}]},
        },
    ]
    mounts = [
        {"name": "scratch", "mountPath": "/data/in"},
        {"name": "config", "mountPath": "/etc/app"},
        {"name": "all", "mountPath": "/etc/all"},
    ]
    script = (
        'echo "$PLAIN|$COMBINED|$FROM_MAP|$FROM_SECRET|$MY_NAME|$MY_LABEL|$MY_IP|$MY_CPU"; cat "$1" "$2"; echo; '
        'echo "$PLACES"; touch here && pwd'
    )
    container = {
        "env": env,
        "args": ["-c", script, "sh", "/etc/app/sub/renamed.txt", "/etc/all/b"],
        "volumeMounts": mounts,
        "workingDir": "/data/in",
        "resources": {"limits": {"cpu": "100m"}},
    }
    apply(twin, space, config, secret, pod("reader", "sh", container=container, volumes=volumes))
    assert (await ended(twin, space, "reader"))["exitCode"] == 0, twin.kubectl("logs", "reader", "-n", space)
    first, second, third, fourth = twin.kubectl("logs", "reader", "-n", space).splitlines()
    address = state(twin, space, "reader")["ip"]
    assert first == f"x|x-$(UNKNOWN)-$(PLAIN)|from the map|from the secret|reader|blue|{address}|1"
    assert second == "contentfrom the secret"
    places = yaml.safe_load(third)
    assert places["path"] == fourth, "a mounted path is rewritten where it stands as a whole"
    assert places["other"] == "/data/input", "and only there"


async def test_what_is_missing_is_named_and_the_pod_starts_when_it_comes(twin: RunningTwin, space: str) -> None:
    volumes = [{"name": "c", "configMap": {"name": "late"}}]
    mounts = [{"name": "c", "mountPath": "/etc/late"}]
    apply(twin, space, pod("waiter", "cat", container={"args": ["/etc/late/key"], "volumeMounts": mounts}, volumes=volumes))

    def waiting() -> str:
        return str(state(twin, space, "waiter").get("waiting", {}).get("message", ""))

    await eventually(lambda: waiting() == 'configmap "late" not found', within=20, every=0.1)
    twin.kubectl("create", "configmap", "late", "-n", space, "--from-literal=key=here now")
    assert (await ended(twin, space, "waiter"))["exitCode"] == 0
    assert twin.kubectl("logs", "waiter", "-n", space) == "here now"


async def test_a_claim_is_bound_shared_by_pods_and_removed_with_its_data(twin: RunningTwin, space: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "shared"}}]
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/shared"}], "env": [{"name": "DIR", "value": "/shared"}]}
    writer = pod("writer", "sh", "-c", 'echo kept > "$DIR/file"; echo "$DIR"', container=mounts, volumes=volumes)
    apply(twin, space, claim, writer)
    assert (await ended(twin, space, "writer"))["exitCode"] == 0
    apply(twin, space, pod("reader", "sh", "-c", 'cat "$DIR/file"', container=mounts, volumes=volumes))
    assert (await ended(twin, space, "reader"))["exitCode"] == 0
    assert twin.kubectl("logs", "reader", "-n", space).strip() == "kept"
    from pathlib import Path

    directory = Path(twin.kubectl("logs", "writer", "-n", space).strip())
    assert (directory / "file").read_text() == "kept\n"
    twin.kubectl("delete", "pod,pvc", "--all", "-n", space)
    await eventually(lambda: not directory.exists(), within=20, what="the claim's directory is removed")


async def test_two_pods_find_each_other_by_name(twin: RunningTwin, space: str) -> None:
    server = pod("one", "python3", "-m", "http.server", "8123", "--bind", "$(MY_IP)", hostname="server", subdomain="gang")
    server["spec"]["containers"][0]["env"] = [{"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    server["spec"]["containers"][0]["command"] = ["sh", "-c", 'exec python3 -m http.server 8123 --bind "$MY_IP"']
    fetch = (
        "import os, time, urllib.request\n"
        "for _ in range(100):\n"
        "    try: print(urllib.request.urlopen(os.environ['PEER'], timeout=2).status); break\n"
        "    except OSError: time.sleep(0.1)\n"
    )
    client = pod("two", "python3", "-c", fetch, hostname="client", subdomain="gang")
    client["spec"]["containers"][0]["env"] = [{"name": "PEER", "value": f"http://server.gang.{space}.svc:8123/"}]
    apply(twin, space, client)
    waiting = lambda: state(twin, space, "two").get("waiting", {}).get("message")  # noqa: E731
    await eventually(lambda: waiting() == "waiting for the address of server", within=20, every=0.1)
    apply(twin, space, server)
    await ended(twin, space, "two")
    assert twin.kubectl("logs", "two", "-n", space).strip() == "200"


async def test_logs_follow_and_tail(twin: RunningTwin, space: str) -> None:
    apply(twin, space, pod("talker", "sh", "-c", "for i in 1 2 3 4; do echo line $i; sleep 0.3; done"))
    await running(twin, space, "talker")
    follower = twin.kubectl.run("logs", "-f", "talker", "-n", space)
    assert follower.stdout.splitlines() == ["line 1", "line 2", "line 3", "line 4"]
    assert twin.kubectl("logs", "talker", "-n", space, "--tail=2").splitlines() == ["line 3", "line 4"]


async def test_deletion_gives_time_and_then_takes_the_whole_family(twin: RunningTwin, space: str) -> None:
    polite = "trap 'echo saving; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    stubborn = "trap '' TERM; (trap '' TERM; setsid sleep 1000) & echo ready; while true; do sleep 0.1; done"
    apply(
        twin,
        space,
        pod("polite", "sh", "-c", polite, terminationGracePeriodSeconds=20),
        pod("stubborn", "sh", "-c", stubborn, terminationGracePeriodSeconds=1),
    )
    for name in ("polite", "stubborn"):
        await eventually(lambda name=name: "ready" in twin.kubectl("logs", name, "-n", space, check=False), within=20, every=0.1)
    uid = twin.kubectl.json("get", "pod", "stubborn", "-n", space)["metadata"]["uid"]
    follower = subprocess.Popen(
        [twin.kubectl.program, "--kubeconfig", str(twin.kubectl.kubeconfig), "logs", "-f", "polite", "-n", space],
        stdout=subprocess.PIPE,
        text=True,
    )
    twin.kubectl("delete", "pod", "polite", "stubborn", "-n", space)
    said, _ = follower.communicate(timeout=20)
    assert "saving" in said
    assert not [one for one in psutil.process_iter(["pid"]) if _mark(one) == uid], "nothing of the pod is left"


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except psutil.Error:
        return None


async def test_a_pod_that_may_restart_does(twin: RunningTwin, space: str) -> None:
    script = 'if [ -e "$DIR/again" ]; then exit 0; fi; touch "$DIR/again"; exit 1'
    container = {"env": [{"name": "DIR", "value": "/s"}], "volumeMounts": [{"name": "s", "mountPath": "/s"}]}
    volumes = [{"name": "s", "emptyDir": {}}]
    apply(twin, space, pod("again", "sh", "-c", script, container=container, volumes=volumes, restartPolicy="OnFailure"))
    await eventually(lambda: state(twin, space, "again")["phase"] == "Succeeded", within=20, every=0.1)
    status = twin.kubectl.json("get", "pod", "again", "-n", space)["status"]
    assert status["containerStatuses"][0]["restartCount"] == 1


async def test_get_nodes_and_pods_show_what_a_kubelet_would(twin: RunningTwin, space: str) -> None:
    apply(twin, space, pod("sleeper", "sleep", "100", terminationGracePeriodSeconds=0))
    await running(twin, space, "sleeper")
    _, row = twin.kubectl("get", "pod", "sleeper", "-n", space, "-o", "wide").splitlines()
    assert row.split()[1:3] == ["1/1", "Running"]
    assert row.split()[5].startswith("127.")
    assert row.split()[6] == "node-1"
    node = twin.kubectl.json("get", "node", "node-1")
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "4"

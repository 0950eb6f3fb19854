"""What servers need of the process node: probes, restarts that tell why, and Deployments that change without a gap."""

from __future__ import annotations

from typing import Any

import aiohttp
import yaml

from support.twin import RunningTwin
from support.waiting import eventually

# Answers 200 as long as the file `ok` is there, else 503; on the pod's own address.
SERVER = """
import http.server, os, pathlib, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if pathlib.Path("ok").exists() else 503)
        self.end_headers()
        self.wfile.write(os.environ["SAYS"].encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer((os.environ["IP"], 8099), Answer).serve_forever()
"""
IP = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def server(name: str, script: str = "touch ok", says: str = "one", **probes: Any) -> dict[str, Any]:
    """A container that runs `script`, then the server above."""
    env = [IP, {"name": "SAYS", "value": says}]
    command = ["sh", "-c", f'{script}\nexec python3 -c "$0"', SERVER]
    return {
        "name": name,
        "image": "example",
        "command": command,
        "env": env,
        "ports": [{"name": "web", "containerPort": 8099}],
        **probes,
    }


def pod(name: str, container: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


def apply(twin: RunningTwin, space: str, *objects: dict[str, Any]) -> None:
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump_all(objects))


def seen(twin: RunningTwin, space: str, name: str) -> dict[str, Any]:
    status = twin.kubectl.json("get", "pod", name, "-n", space).get("status", {})
    ready = next((one["status"] for one in status.get("conditions", []) if one["type"] == "Ready"), "False")
    container = (status.get("containerStatuses") or [{}])[0]
    return {"ready": ready == "True", "restarts": container.get("restartCount", 0), **container}


def http(period: int = 1, **more: Any) -> dict[str, Any]:
    return {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": period, **more}


async def test_a_pod_is_ready_when_its_probe_says_so_and_not_when_it_no_longer_does(twin: RunningTwin, space: str) -> None:
    container = server("main", "(sleep 2; touch ok; sleep 3; rm ok) &", readinessProbe=http(failureThreshold=1))
    apply(twin, space, pod("web", container), pod("plain", server("main")))
    await eventually(
        lambda: seen(twin, space, "plain")["ready"], within=20, every=0.1, what="one without probes is ready at once"
    )
    await eventually(lambda: "running" in seen(twin, space, "web").get("state", {}), within=20, every=0.1)
    assert not seen(twin, space, "web")["ready"]
    await eventually(lambda: seen(twin, space, "web")["ready"], within=20, every=0.1, what="ready")
    await eventually(lambda: not seen(twin, space, "web")["ready"], within=20, every=0.1, what="not ready any more")
    assert seen(twin, space, "web")["restarts"] == 0


async def test_a_container_that_is_no_longer_alive_starts_anew_and_says_why(twin: RunningTwin, space: str) -> None:
    alive = server("main", "touch ok; (sleep 2; rm ok) &", livenessProbe=http(failureThreshold=2))
    slow = server("main", "true", startupProbe=http(failureThreshold=2), livenessProbe=http())
    command = {"exec": {"command": ["sh", "-c", 'test "$SAYS" = never']}, "periodSeconds": 1, "failureThreshold": 1}
    apply(twin, space, pod("alive", alive), pod("slow", slow), pod("asked", server("main", livenessProbe=command)))
    for name in ("alive", "slow", "asked"):
        told = await eventually(
            lambda name=name: (now := seen(twin, space, name))["restarts"] and now, within=40, every=0.2, what=name
        )
        assert told["lastState"]["terminated"]["exitCode"] == 143, told
    assert "liveness probe failed" in twin.kubectl("logs", "alive", "-n", space)
    assert "startup probe failed" in twin.kubectl("logs", "slow", "-n", space)


async def test_a_deployment_changes_without_a_moment_when_nobody_answers(twin: RunningTwin, space: str) -> None:
    labels = {"app": "web"}

    def deployment(says: str) -> dict[str, Any]:
        container = server(
            "main", "(sleep 1; touch ok) &", says, readinessProbe={"tcpSocket": {"port": "web"}, "periodSeconds": 1}
        )
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 2}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "strategy": strategy, "template": template}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}

    def ready() -> list[str]:
        pods = twin.kubectl.json("get", "pods", "-n", space, "-l", "app=web")["items"]
        found = []
        for one in pods:
            conditions = {each["type"]: each["status"] for each in one.get("status", {}).get("conditions", [])}
            if conditions.get("Ready") == "True" and "deletionTimestamp" not in one["metadata"]:
                found.append(one["status"]["podIP"])
        return found

    async def says() -> list[str]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            answers = []
            for address in ready():
                try:
                    async with session.get(f"http://{address}:8099/") as response:
                        answers.append(await response.text())
                except aiohttp.ClientError:
                    continue
            return answers

    apply(twin, space, deployment("one"))
    await eventually(lambda: len(ready()) == 2, within=40, every=0.2, what="two are ready")
    apply(twin, space, deployment("two"))
    while (answers := await says()) != ["two", "two"]:
        assert answers, "somebody always answers"
        assert set(answers) <= {"one", "two"}

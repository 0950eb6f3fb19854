"""A ModelDeployment on a twin, as a suite changes, watches and breaks it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from support.twin import RunningTwin
from support.waiting import eventually
from trainwright.local.process import MARK


@dataclass(frozen=True)
class Served:
    """The deployment `name` in a namespace."""

    twin: RunningTwin
    space: str
    name: str

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.twin.kubectl.json("get", "md", self.name, "-n", self.space).get("status", {})
        return found

    def change(self, **spec: Any) -> None:
        patch = json.dumps({"spec": spec})
        self.twin.kubectl("patch", "md", self.name, "-n", self.space, "--type=merge", "-p", patch)

    async def reaches(self, condition: Callable[[dict[str, Any]], Any], what: str, *, within: float = 120) -> dict[str, Any]:
        """Its status as soon as the condition holds for it."""
        seen: dict[str, Any] = {}

        def looked() -> Any:
            seen.clear()
            seen.update(self.status())
            return condition(seen)

        try:
            await eventually(looked, within=within, every=0.2, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; {json.dumps(seen, indent=1)}") from None
        return seen

    def pods(self, role: str, version: int | None = None) -> list[dict[str, Any]]:
        labels = f"trainwright.dev/role={role},trainwright.dev/deployment={self.name}"
        labels += f",trainwright.dev/version={version}" if version else ""
        listed = self.twin.kubectl.json("get", "pods", "-n", self.space, "-l", labels)
        return [pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]

    def gateways(self) -> list[str]:
        """Where clients reach it."""
        return [f"http://{pod['status']['podIP']}:8080" for pod in self.pods("gateway") if pod.get("status", {}).get("podIP")]

    def processes(self, role: str, version: int | None = None) -> list[int]:
        """Every process of its pods of a role."""
        uids = {pod["metadata"]["uid"] for pod in self.pods(role, version)}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) in uids:
                    found.append(process.pid)
        return found

    def models(self) -> Path:
        """Where its versions lie."""
        return self._directory(f"{self.name}-models")

    def workspace(self, job: str) -> Path:
        """The workspace of a job."""
        return self._directory(f"{job}-workspace")

    def _directory(self, claim: str) -> Path:
        volume = self.twin.kubectl.json("get", "pvc", claim, "-n", self.space)["spec"]["volumeName"]
        return Path(self.twin.kubectl.json("get", "pv", volume)["spec"]["hostPath"]["path"])

"""Code and data from wherever they lie, on a real twin: a URI, a config map, folders of a claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from support.twin import RunningTwin
from support.waiting import eventually

SHOW = """
import glob, json, os, tool
data = json.loads(os.environ["TRAINWRIGHT_DATA"])
print(json.dumps({name: sorted(os.listdir(entry["path"])) for name, entry in data.items()} | {"tool": tool.NAME}))
"""


def status(twin: RunningTwin, space: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = twin.kubectl.json("get", "tj", name, "-n", space).get("status", {})
    return found


def job(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "trainwright.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}


async def test_every_source_of_code_and_data(twin: RunningTwin, space: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "labels.csv").write_text("a,b\n")
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    table = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "table"}, "data": {"classes.txt": "cat"}}
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump_all([claim, table]))
    volume = await eventually(
        lambda: twin.kubectl.json("get", "pvc", "shared", "-n", space)["spec"].get("volumeName"), within=20, every=0.1
    )
    shared = Path(twin.kubectl.json("get", "pv", volume)["spec"]["hostPath"]["path"])
    (shared / "project/src").mkdir(parents=True)
    (shared / "project/src/tool.py").write_text("NAME = 'from the claim'\n")
    (shared / "images").mkdir()
    (shared / "images/one.png").touch()
    wanted = job(
        "sources",
        framework="none",
        command=["python", "-c", SHOW],
        workers=2,
        code={"claim": "shared", "path": "project/src"},
        data=[
            {"name": "fetched", "uri": f"file://{source}"},
            {"name": "table", "configMap": "table", "mountPath": "/mnt/table"},
            {"name": "images", "claim": "shared", "path": "images"},
        ],
    )
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump(wanted))

    def ended() -> bool:
        seen = status(twin, space, "sources")
        assert seen.get("phase") != "Failed", seen
        return seen.get("phase") == "Succeeded"

    await eventually(ended, within=60, every=0.2)
    shown = [json.loads(twin.cli("logs", "sources", "-n", space, "--rank", str(rank)).stdout.splitlines()[-1]) for rank in (0, 1)]
    expected = {
        "fetched": ["labels.csv"],
        "table": ["classes.txt"],
        "images": ["one.png"],
        "tool": "from the claim",
    }
    assert shown == [expected, expected]


async def test_data_that_cannot_be_fetched_is_named_in_the_reason(twin: RunningTwin, space: str) -> None:
    wanted = job(
        "lost",
        framework="none",
        command=["true"],
        data=[{"name": "train", "uri": "file:///no/such/folder"}],
        runPolicy={"backoffLimit": 0},
    )
    twin.kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump(wanted))
    await eventually(lambda: status(twin, space, "lost").get("phase") == "Failed", within=40, every=0.2)
    assert "file:///no/such/folder is not there" in status(twin, space, "lost")["reason"]

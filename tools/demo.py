"""`make demo`: the main job of Trainwright from end to end, as a user would do it, with what it prints and shows on the way.

A real control plane comes up, the operator, a node; `kubectl apply` of a training job with two workers; one worker is
killed; the gang restarts and resumes; its model is published and goes live behind a gateway; a second one takes over by canary,
under load; drift is provoked and shown. KEEP=1 leaves everything running afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from demo_serving import serve
from demo_steps import DEADLINE_SECONDS, ROOT, TRAINWRIGHT, console, do, say, shown
from trainwright.local import binaries, environments
from trainwright.local.twin import Twin

SAMPLE = ROOT / "manifests" / "samples" / "digits.yaml"
RESULTS = ROOT / "build" / "demo"
JOB = "digits"
KILL_AFTER_STEP = 90


def main() -> None:
    started = time.monotonic()
    os.chdir(ROOT)
    os.environ.setdefault("TRAINWRIGHT_HOME", str(ROOT / ".trainwright"))
    if not prepare():
        without_cluster()
        return
    twin = Twin("demo")
    try:
        say("A control plane on this machine: etcd, kube-apiserver, controller-manager, scheduler; one node; the operator")
        console.print("[dim]$ trainwright up --name demo --gpus-per-node 2[/]")
        subprocess.run([TRAINWRIGHT, "up", "--name", "demo", "--gpus-per-node", "2"], check=True)
        os.environ["KUBECONFIG"] = str(twin.state / "kubeconfig")
        train(twin.kubectl)
        serve(twin.kubectl)
        say(f"Done in {time.monotonic() - started:.0f} s")
        console.print(f"The model, its report and curves are in {RESULTS.relative_to(ROOT)}/")
    finally:
        if os.environ.get("KEEP"):
            console.print(f"\nKEEP is set: everything still runs. export KUBECONFIG={twin.state / 'kubeconfig'}")
            console.print("End it with: TRAINWRIGHT_HOME=$PWD/.trainwright .venv/bin/trainwright down --name demo")
        elif twin.down():
            console.print("[dim]the twin is down; KEEP=1 make demo leaves it running[/]")


def prepare() -> bool:
    """Make what may take minutes the first time, saying so; whether a control plane can be had."""
    say("Getting ready (the first time takes minutes, later nothing)")
    try:
        binaries.ensure(lambda text: console.print(f"  {text}"))
        has_control_plane = True
    except binaries.ControlPlaneUnavailable as error:
        console.print(f"[yellow]no control plane can be had here ({error}): the same story is told by `trainwright run`[/]")
        has_control_plane = False
    for image in ("torch", *(["serving/publisher", "serving/torchserve", "serving/gateway"] if has_control_plane else [])):
        asyncio.run(environments.ensure(ROOT / "trainer_images" / image, lambda text: console.print(f"  {text}")))
    console.print("  ready")
    return has_control_plane


def without_cluster() -> None:
    """The story where there is no control plane: the same job and the same reconciler in one process."""
    say("A training job of two workers; one of them is killed on the way")
    runs = ROOT / "build" / "demo-run"
    shutil.rmtree(runs, ignore_errors=True)
    command = [TRAINWRIGHT, "run", str(SAMPLE), "--dir", str(runs)]
    console.print(f"[dim]$ {shown(*command)}[/]")
    process = subprocess.Popen(command)
    checkpoints = runs / JOB / "workspace" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("step-*/manifest.json")):
        time.sleep(0.2)
    pids = worker_processes(1)
    say(f"kill -9 {' '.join(map(str, pids))}: all of worker 1")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    raise SystemExit(process.wait())


def train(kubectl: str) -> None:
    """The story of one job."""
    say("A training job: two workers, torch DDP, scikit-learn's 1,797 images of digits")
    do(kubectl, "delete", "md,trainingjob", "--all", "--wait", quiet=True)
    do(kubectl, "delete", "pvc", "--all", quiet=True)
    do(kubectl, "apply", "-f", SAMPLE.relative_to(ROOT))
    until(kubectl, lambda job: phase(job) == "Running", "every worker runs")
    do(kubectl, "get", "pods", "-o", "wide")
    until(kubectl, lambda job: step(job) >= KILL_AFTER_STEP, f"step {KILL_AFTER_STEP}, with a checkpoint behind it")
    do(kubectl, "get", "tj", JOB, "-o", "wide")

    say("kill -9 of worker 1, in the middle of training")
    pids = worker_processes(1)
    console.print(f"[dim]$ kill -9 {' '.join(map(str, pids))}[/]")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(kubectl, lambda job: job["status"].get("attempt") == 2, "the operator noticed")
    console.print(f"  {get(kubectl)['status'].get('reason', '')}")
    until(kubectl, lambda job: resumed(job) is not None, "training goes on")
    console.print(f"  attempt 2 goes on from the checkpoint of step {resumed(get(kubectl))}; nothing before it is lost")
    until(kubectl, lambda job: phase(job) in ("Succeeded", "Failed"), "the end")

    say("What became of it")
    do(kubectl, "get", "tj", JOB, "-o", "wide")
    do(TRAINWRIGHT, "status", JOB, check=False)
    if phase(get(kubectl)) != "Succeeded":
        raise SystemExit("demo: the job failed")
    keep_results(kubectl)


def keep_results(kubectl: str) -> None:
    """Copy the artifacts out of the workspace, which goes with the twin."""
    job = get(kubectl)
    artifacts = Path(job["status"]["checkpoint"]["path"]).parents[1] / "artifacts"
    shutil.rmtree(RESULTS, ignore_errors=True)
    shutil.copytree(artifacts, RESULTS)
    say(f"The model: {', '.join(sorted(path.name for path in RESULTS.iterdir()))}")
    accuracy = job["status"]["metrics"]["test_accuracy"]
    console.print(f"  accuracy on images it never saw: [bold green]{accuracy:.4f}[/]")


def get(kubectl: str) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(do(kubectl, "get", "tj", JOB, "-o", "json", quiet=True))
    job.setdefault("status", {})
    return job


def phase(job: dict[str, Any]) -> str:
    return str(job["status"].get("phase", ""))


def step(job: dict[str, Any]) -> int:
    return int(job["status"].get("progress", {}).get("step") or 0)


def resumed(job: dict[str, Any]) -> int | None:
    return job["status"].get("progress", {}).get("resumedFrom")  # type: ignore[no-any-return]


def until(kubectl: str, condition: Any, what: str) -> None:
    """Wait for a condition of the job, saying every change of phase and how far it is."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    with console.status(what) as spinner:
        while not condition(job := get(kubectl)):
            progress = job["status"].get("progress", {}).get("summary", "")
            spinner.update(f"{phase(job) or 'New'} {progress} {job['status'].get('reason', '')}")
            if phase(job) == "Failed":
                raise SystemExit(f"demo: the job failed: {job['status'].get('reason')}")
            if time.monotonic() > deadline:
                raise SystemExit(f"demo: {what}: not within {DEADLINE_SECONDS} s; the job says: {job['status']}")
            time.sleep(0.2)
    console.print(f"  [green]✓[/] {what}")


def worker_processes(index: int) -> list[int]:
    """Pids of a worker of the job, its launcher first: what `kill` needs."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("TRAINWRIGHT_JOB") == JOB and environment.get("TRAINWRIGHT_WORKER_INDEX") == str(index):
            found.append(process.pid)
    return sorted(found)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

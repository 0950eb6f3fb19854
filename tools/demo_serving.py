"""The second half of `make demo`: a model that was trained becomes one that is served, and watched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import yaml

from demo_steps import DEADLINE_SECONDS, ROOT, TRAINWRIGHT, console, do, say
from trainwright.api.names import CLIENT_PORT

NAME = "digits"
SAMPLE = ROOT / "manifests" / "samples" / "serve-digits.yaml"
SECOND = ROOT / "manifests" / "samples" / "publish-digits.yaml"
REQUEST = ROOT / "build" / "demo-request.json"
CLIENTS = 2
PAUSE_SECONDS = 0.03


def serve(kubectl: str) -> None:
    """Publish, canary under load, predict, drift."""
    say("The model goes into service: TorchServe behind a gateway")
    do(kubectl, "apply", "-f", SAMPLE.relative_to(ROOT))
    do(TRAINWRIGHT, "publish", NAME, "--to", NAME)
    until(kubectl, lambda status: status.get("live") == 1, "verified, gated, published, loaded, checked: version 1 is live")
    do(kubectl, "get", "md", NAME)

    images = digits()
    REQUEST.parent.mkdir(exist_ok=True)
    REQUEST.write_text(json.dumps({"inputs": {"images": images[:3]}}))
    say("A prediction through the gateway, of three images")
    answer = json.loads(do(TRAINWRIGHT, "predict", NAME, REQUEST, quiet=True))
    console.print(f"[dim]$ trainwright predict {NAME} {REQUEST.relative_to(ROOT)}[/]")
    console.print(f'  "classes": [bold green]{json.dumps(answer["classes"])}[/]')

    say("Clients keep asking; meanwhile a second job trains a new version, which offers itself (spec.publish)")
    with asking(kubectl, images) as clients:
        second = yaml.safe_load(SECOND.read_text())
        second["metadata"]["name"] = "digits-2"
        second["spec"]["recipe"]["config"] |= {"epochs": 25}
        path = ROOT / "build" / "demo-second.yaml"
        path.write_text(yaml.safe_dump(second, sort_keys=False))
        do(kubectl, "apply", "-f", path.relative_to(ROOT))
        until(kubectl, lambda status: step(status) == "Canary", "trained, and in canary")
        until(kubectl, lambda status: status.get("live") == 2, "version 2 held its canary and is live")
        if clients.failures:
            raise SystemExit(f"demo: {len(clients.failures)} requests failed: {clients.failures[0]}")
        asked = ", ".join(f"version {version}: {count}" for version, count in sorted(clients.answers.items()))
        console.print(f"  {sum(clients.answers.values())} requests answered on the way ({asked}), [bold green]none lost[/]")

        say("The world changes: clients begin to send negatives of the images")
        until(
            kubectl, lambda status: "drift" in status and not drifting(status), "so far they send what version 2 was trained on"
        )
        show_drift(kubectl)
        clients.change = negative
        until(kubectl, drifting, "the deployment says Drifting")
        show_drift(kubectl)
    do(TRAINWRIGHT, "versions", NAME, check=False)


class Clients:
    """What a load saw. `change` is what happens to images before they are sent."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.change: Callable[[Any], Any] = lambda image: image


@contextlib.contextmanager
def asking(kubectl: str, images: list[Any]) -> Iterator[Clients]:
    """Clients that ask one image after another for as long as the block lasts."""
    clients, stop = Clients(), threading.Event()
    url = f"http://{gateway(kubectl)}:{CLIENT_PORT}/predictions/{NAME}"

    async def client(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            body = {"inputs": {"images": [clients.change(random.choice(images))]}}
            try:
                async with session.post(url, json=body) as response:
                    if response.status == 200:
                        await response.read()
                        clients.answers[response.headers["x-trainwright-version"]] += 1
                    else:
                        clients.failures.append(f"{response.status} {await response.text()}")
            except (aiohttp.ClientError, TimeoutError) as error:
                clients.failures.append(repr(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def all_of_them() -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(client(session) for _ in range(CLIENTS)))

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()), daemon=True)
    thread.start()
    try:
        yield clients
    finally:
        stop.set()
        thread.join()


def negative(image: Any) -> Any:
    """The image with light and dark exchanged."""
    return [negative(one) for one in image] if isinstance(image, list) else 1.0 - image


def digits() -> list[Any]:
    """Images of scikit-learn's digits, as the model takes them; on a cluster clients have their own."""
    program = "import json, sklearn.datasets as d; print(json.dumps((d.load_digits().images[::5, None] / 16).tolist()))"
    images: list[Any] = json.loads(do(ROOT / "trainer_images/torch/.venv/bin/python", "-c", program, quiet=True))
    return images


def show_drift(kubectl: str) -> None:
    """The figures behind what the deployment says."""
    status = json.loads(do(kubectl, "get", "md", NAME, "-o", "json", quiet=True))["status"]
    condition = next(one for one in status["conditions"] if one["type"] == "Drifting")
    console.print(f"  Drifting {condition['status']}: {condition['message']}")


def gateway(kubectl: str) -> str:
    """The address of the gateway's pod."""
    pods = json.loads(do(kubectl, "get", "pods", "-l", "trainwright.dev/role=gateway", "-o", "json", quiet=True))
    return str(pods["items"][0]["status"]["podIP"])


def step(status: dict[str, Any]) -> str:
    return str(status.get("candidate", {}).get("step", ""))


def drifting(status: dict[str, Any]) -> bool:
    return any(one["type"] == "Drifting" and one["status"] == "True" for one in status.get("conditions", []))


def until(kubectl: str, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
    """Wait for a condition of the deployment, saying every step that it takes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    with console.status(what) as spinner:
        while True:
            deployment = json.loads(do(kubectl, "get", "md", NAME, "-o", "json", quiet=True))
            status = deployment.get("status", {})
            if condition(status):
                break
            spinner.update(f"{status.get('phase', 'New')} {step(status)} {status.get('reason', '')}")
            ended = next((one for one in status.get("versions", []) if one["state"] in ("Refused", "RolledBack")), None)
            if ended:
                raise SystemExit(f"demo: version {ended['version']} was {ended['state']}: {ended['reason']}")
            if time.monotonic() > deadline:
                raise SystemExit(f"demo: {what}: not within {DEADLINE_SECONDS} s; the deployment says: {status}")
            time.sleep(0.3)
    console.print(f"  [green]✓[/] {what}")

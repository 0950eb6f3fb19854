"""Published versions and servers as real processes, each server on an address of its own out of 127.0.0.0/8."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launching import wait_for

from trainwright_runtime.sealed import write_sealed
from trainwright_runtime.serving.record import digest_of

IMAGES = Path(__file__).resolve().parents[3]
PUBLISHER = IMAGES / "serving/publisher/.venv/bin/trainwright-publisher"


def write_artifact(folder: Path, files: Mapping[str, bytes], facts: Mapping[str, Any], samples: Any = None) -> Path:
    """A sealed directory as a trainer leaves it."""
    content = dict(files) if samples is None else {**files, "samples.json": json.dumps(samples).encode()}
    write_sealed(folder, {name: _writer(one) for name, one in content.items()}, {"recipe": "tabular", "time": 1.0, **facts})
    return folder


def _writer(content: bytes) -> Callable[[Any], Any]:
    return lambda stream: stream.write(content)


def publish(artifact: Path, models: Path, *, server: str, model: str = "tumours", version: int = 1) -> str:
    """By the publisher's own command; returns the sha256 of the record."""
    models.mkdir(exist_ok=True)
    digest = digest_of((artifact / "manifest.json").read_bytes())
    words = ["publish", "--source", artifact, "--server", server, "--digest", digest, "--model", model]
    done = subprocess.run(
        [PUBLISHER, *words, "--version", str(version), "--models", models],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads(done.stdout)["record"])


class Server:
    """One server process, with the environment that the operator gives it."""

    def __init__(self, command: str, models: Path, record: str, *, model: str = "tumours", version: int = 1, **more: str) -> None:
        self.address = f"127.{random.randint(80, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
        self._log = models.parent / f"server-{self.address}.log"
        own = {
            "TRAINWRIGHT_MODEL_NAME": model,
            "TRAINWRIGHT_MODELS": str(models),
            "TRAINWRIGHT_VERSION": str(version),
            "TRAINWRIGHT_RECORD": record,
            "TRAINWRIGHT_POD_IP": self.address,
            "OMP_NUM_THREADS": "1",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name(command)],
                env={**os.environ, **own, **more},
                cwd=models.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        return self.log.strip().splitlines()[-1]

    def wait_until_ready(self, path: str, seconds: float = 120.0) -> None:
        """Until the readiness probe succeeds; a server that ends before is an error."""

        def is_ready() -> bool:
            assert self.process.poll() is None, self.log
            return self.get(path)[0] == 200

        wait_for(is_ready, f"{path} of the server", seconds)

    def get(self, path: str, port: int = 8080) -> tuple[int, str]:
        """Status and body; 0 where nobody listens."""
        return self._ask(urllib.request.Request(f"http://{self.address}:{port}{path}"))

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and body; `body` is JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **headers}
        status, text = self._ask(urllib.request.Request(f"http://{self.address}:8080{path}", content, given))
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def _ask(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError) as error:
            return 0, str(error)

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

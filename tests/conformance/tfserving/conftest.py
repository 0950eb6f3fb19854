"""What TensorFlow Serving does, as far as Trainwright leans on it: the same tests for our double and for a real one.

TFSERVING_SERVER: a program that is started with the flags of `tensorflow_model_server`. TFSERVING_IMAGE: a container image that
has it, run by docker or podman on the host's network. Without either it is the double.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

DOUBLE = Path(__file__).parents[2] / "support/tfserving/tensorflow_model_server"
START_SECONDS = 90.0
POLL = "--file_system_poll_wait_seconds=1"
MONITORING = 'prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }'


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@functools.cache
def container_engine() -> str | None:
    """The first of docker and podman that can run something."""
    found = [path for name in ("docker", "podman") if (path := shutil.which(name))]
    return next(
        (path for path in found if subprocess.run([path, "info"], capture_output=True, check=False).returncode == 0), None
    )


def command_of(folder: Path) -> list[str]:
    """What starts the server, before its flags; its files are below `folder`."""
    image, program = os.environ.get("TFSERVING_IMAGE"), os.environ.get("TFSERVING_SERVER")
    if image:
        engine = container_engine()
        if engine is None:
            pytest.exit(
                f"IMAGE is {image}, and there is neither a docker nor a podman that could run it (`docker info` fails); "
                "SERVER takes the path of a tensorflow_model_server instead",
                returncode=2,
            )
        mounted = ["-v", f"{folder}:{folder}", "--name", f"conformance-{uuid.uuid4().hex[:8]}"]
        return [engine, "run", "--rm", "--network=host", *mounted, "--entrypoint=tensorflow_model_server", image]
    if program and shutil.which(program) is None:
        pytest.exit(f"SERVER is {program}, which is no program", returncode=2)
    return [program or str(DOUBLE)]


class Serving:
    """One server, over models in a folder."""

    def __init__(self, folder: Path, config: str, *flags: str) -> None:
        self.folder = folder
        self.port, self.rest_port = free_port(), free_port()
        self.config_file = folder / "models.config"
        self.config_file.write_text(config)
        (folder / "monitoring.config").write_text(MONITORING)
        self._log = folder / f"log-{uuid.uuid4().hex[:6]}"
        own = [f"--port={self.port}", f"--rest_api_port={self.rest_port}", f"--model_config_file={self.config_file}"]
        own.append(f"--monitoring_config_file={folder / 'monitoring.config'}")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command_of(folder), *own, POLL, *flags], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_ready(self) -> Serving:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.log
            return self.get("/v1/models/nothing")[0] != 0

        wait_for(is_ready, "the server", START_SECONDS)
        return self

    def get(self, path: str) -> tuple[int, Any]:
        return self._ask(urllib.request.Request(self._url(path)))

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        return self._ask(urllib.request.Request(self._url(path), body if isinstance(body, bytes) else json.dumps(body).encode()))

    def predict(self, body: Any, model: str = "plus", which: str = "") -> tuple[int, Any]:
        return self.post(f"/v1/models/{model}{which}:predict", body)

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.rest_port}{path}"

    def _ask(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return 0, None
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def states(self, model: str = "plus") -> dict[int, str]:
        status, answer = self.get(f"/v1/models/{model}")
        return {int(one["version"]): one["state"] for one in answer["model_version_status"]} if status == 200 else {}

    def reload(self, config: str) -> None:
        """Over gRPC; raises grpc.RpcError."""
        request = model_management_pb2.ReloadConfigRequest(
            config=text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
        )
        self.models.HandleReloadConfigRequest(request, timeout=60)

    def end(self) -> int:
        self._channel.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Plus(tf.Module):
    """Adds its version's number to both columns."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = tf.Variable([float(number)] * 2)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.number}


class Named(tf.Module):
    """Several inputs and outputs, of several types."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="numbers"),
            tf.TensorSpec([None], tf.string, name="words"),
            tf.TensorSpec([None], tf.int64, name="counts"),
        ]
    )
    def __call__(self, numbers: tf.Tensor, words: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "total": tf.reduce_sum(numbers, 1) * 0.1,
            "shout": tf.strings.upper(words),
            "raw_bytes": words,
            "twice": counts * 2,
            "many": counts > 1,
        }


def put(base: Path, number: int, module: tf.Module | None = None) -> Path:
    """A version, put in place by a rename as the publisher does."""
    aside = base.parent / f"aside-{uuid.uuid4().hex[:6]}"
    made = module or Plus(number)
    tf.saved_model.save(made, str(aside), signatures=made.__call__)
    base.mkdir(exist_ok=True)
    aside.rename(base / str(number))
    return base / str(number)


def model(name: str, base: Path, *, versions: tuple[int, ...] = (), labels: dict[str, int] | None = None) -> str:
    """One model of a configuration, in its text form."""
    policy = f"model_version_policy {{ specific {{ {' '.join(f'versions: {one}' for one in versions)} }} }}" if versions else ""
    stuck = " ".join(f'version_labels {{ key: "{label}" value: {number} }}' for label, number in (labels or {}).items())
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {policy} {stuck} }}'


def config(*models: str) -> str:
    return f"model_config_list {{ {' '.join(models)} }}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts servers; ends them."""
    servers: list[Serving] = []

    def started(*arguments: Any) -> Serving:
        servers.append(Serving(tmp_path, *arguments))
        return servers[-1]

    yield started
    for server in servers:
        server.end()


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Two versions of one model, with a label each, and another model; for the tests that only ask."""
    folder = tmp_path_factory.mktemp("serving")
    for number in (1, 2):
        put(folder / "plus", number)
    put(folder / "named", 1, Named())
    plus = model("plus", folder / "plus", versions=(1, 2), labels={"stable": 1, "canary": 2})
    flag = "--allow_version_labels_for_unavailable_models=true"
    server = Serving(folder, config(plus, model("named", folder / "named")), flag).wait_until_ready()
    wait_for(lambda: server.states() == {1: "AVAILABLE", 2: "AVAILABLE"}, "both versions")
    yield server
    server.end()

"""What all commands share: where they look, what they say of mistakes, their exit codes, what programs get to read."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import job
from support.cli import CommandLine
from trainwright.cli import completion, main
from trainwright.cli.completion import complete_jobs, complete_namespaces
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import NAMESPACES, TRAINING_JOBS, ClusterError, Forbidden, NotFound, Object, ObjectList, Resource


class Refusing(MemoryCluster):
    """Answers everything with one error."""

    def __init__(self, error: ClusterError) -> None:
        super().__init__()
        self.error = error

    async def get(self, *_: Any, **__: Any) -> Object:
        raise self.error

    async def list(self, *_: Any, **__: Any) -> ObjectList:
        raise self.error


COMMANDS = [("status", "digits"), ("top",), ("logs", "digits"), ("suspend", "digits"), ("resume", "digits"), ("delete", "digits")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("error", "advice"),
    [
        pytest.param(Forbidden("you can't"), "`trainwright doctor` lists what you may", id="forbidden"),
        pytest.param(ClusterError("Unauthorized", status=401), "log in again", id="not logged in"),
        pytest.param(NotFound("404 page not found"), "kubectl apply -f manifests/crds/", id="no CRD"),
        pytest.param(ClusterError("no answer from https://10.0.0.1"), "--context", id="no answer"),
    ],
)
def test_errors_of_the_cluster_come_with_what_to_do(
    cli: CommandLine, command: tuple[str, ...], error: ClusterError, advice: str
) -> None:
    cli.cluster = Refusing(error)
    shown = cli(*command)
    assert shown.code == 1
    assert error.message in shown.err
    assert advice in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("command", [one for one in COMMANDS if len(one) > 1], ids=" ".join)
def test_a_job_that_is_not_there_is_answered_with_names_that_are(cli: CommandLine, command: tuple[str, ...]) -> None:
    assert "there are none" in cli(*command).err
    cli.put(job("digit"), job("resnet"))
    shown = cli(*command)
    assert shown.code == 2
    assert "no TrainingJob digits in namespace default; did you mean digit?" in shown.err
    assert "there are: digit, resnet" in cli(command[0], "zebra").err


def test_status_of_a_failed_job_is_exit_code_1_whatever_is_printed(cli: CommandLine) -> None:
    cli.put(job("digits"))
    assert cli("status", "digits").code == 0
    cli.say("digits", phase="Failed", reason="out of memory")
    for output in ("table", "json", "yaml"):
        assert cli("status", "digits", "--output", output).code == 1


def test_one_job_as_json_and_yaml_is_the_object(cli: CommandLine) -> None:
    cli.put(job("digits").workers(3))
    assert cli("status", "digits", "-o", "json").json()["spec"]["workers"] == 3
    raw = yaml.safe_load(cli("status", "digits", "-o", "yaml").out)
    assert (raw["kind"], raw["metadata"]["name"]) == ("TrainingJob", "digits")
    everything = cli("status", "-o", "json").json()
    assert everything["twin"] is None
    assert [one["metadata"]["name"] for one in everything["jobs"]] == ["digits"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ConfigMap and a job that uses it."""
    path = tmp_path / "job.yaml"
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"train.py": "print()"}}
    training = job("digits").build()
    del training["metadata"]["namespace"]
    path.write_text(yaml.safe_dump_all([code, training]))
    return path


def test_submit_goes_where_it_is_told_and_says_what_was_stored(cli: CommandLine, file: Path) -> None:
    shown = cli("submit", file, "-n", "team-b", "-o", "json")
    stored = shown.json()
    assert stored["kind"] == "List"
    assert [(one["kind"], one["metadata"]["namespace"]) for one in stored["items"]] == [
        ("ConfigMap", "team-b"),
        ("TrainingJob", "team-b"),
    ]
    assert stored["items"][1]["metadata"]["uid"]
    assert cli("submit", file).out == "configmap code submitted\ntrainingjob digits submitted\n"


def test_submit_refuses_a_namespace_that_the_file_contradicts(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job("digits").namespace("team-a").build()))
    shown = cli("submit", path, "-n", "team-b")
    assert shown.code == 2
    assert "team-a" in shown.err
    assert cli.do(cli.cluster.list(TRAINING_JOBS)).items == []


def test_a_change_that_is_not_allowed_is_the_user_s_to_mend(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    for workers, code in ((1, 0), (2, 2)):
        path.write_text(yaml.safe_dump(job("digits").workers(workers).build()))
        shown = cli("submit", path)
        assert shown.code == code
    assert "spec.workers cannot change once the job exists" in shown.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("status", "--follow"), "--follow needs the name of a job"),
        (("status", "digits", "--follow", "-o", "json"), "exclude each other"),
        (("status", "digits", "-A"), "--all-namespaces goes with neither"),
        (("logs", "digits", "--all", "--rank", "1"), "exclude each other"),
        (("top", "-o", "xml"), "xml"),
        (("nonsense",), "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_asked_wrongly_is_exit_code_2(cli: CommandLine, words: tuple[str, ...], says: str) -> None:
    shown = cli(*words)
    assert shown.code == 2
    assert says in shown.err


CONTEXTS = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": name, "context": {"cluster": "c", "user": "u", "namespace": name}} for name in ("prod", "test")],
    "current-context": "prod",
}


@pytest.mark.parametrize(
    ("content", "context", "code", "says"),
    [
        pytest.param(yaml.safe_dump(CONTEXTS), "dev", 2, "its contexts are: prod, test", id="no such context"),
        pytest.param("a: [", None, 2, "is no kubeconfig", id="not YAML"),
        pytest.param("hello", None, 2, "is no kubeconfig", id="not a kubeconfig"),
        pytest.param("", None, 2, "is no kubeconfig", id="empty"),
        pytest.param(None, None, 2, "no such file", id="not there"),
        pytest.param(yaml.safe_dump(CONTEXTS), "test", 1, "/namespaces/test/trainingjobs", id="a cluster that is away"),
    ],
)
def test_a_kubeconfig_that_will_not_do(
    content: str | None, context: str | None, code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the real adapter: what it makes of files is the point. The last one is a good file, and a port where nobody listens."""
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    words = ["status", "digits", "--kubeconfig", str(path), *(["--context", context] if context else [])]
    assert main(words) == code
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


async def test_the_context_s_namespace_is_where_we_work(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(CONTEXTS))
    for context, namespace in ((None, "prod"), ("test", "test")):
        cluster = await KubeCluster.connect(kubeconfig=path, context=context)
        assert cluster.namespace == namespace
        await cluster.close()
    assert KubeCluster.contexts(path) == ("prod", "test")


class Typed:
    """What typer hands a completion: the options typed so far."""

    def __init__(self, **params: Any) -> None:
        self.params = params


class TestCompletion:
    def test_names_come_from_the_cluster(self, cli: CommandLine) -> None:
        cli.put(job("digits"), job("resnet"), job("digits-b").namespace("team-b"))
        cli.do(cli.cluster.create(NAMESPACES, {"metadata": {"name": "team-b"}}))
        assert complete_jobs(Typed(), "d") == ["digits"]  # type: ignore[arg-type]
        assert complete_jobs(Typed(namespace="team-b"), "") == ["digits-b"]  # type: ignore[arg-type]
        assert complete_namespaces(Typed(), "t") == ["team-b"]  # type: ignore[arg-type]

    def test_trouble_is_silent(self, cli: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
        cli.cluster = Refusing(Forbidden("no"))
        assert complete_jobs(Typed(), "") == []  # type: ignore[arg-type]
        assert complete_jobs(Typed(kubeconfig=Path("/nowhere")), "") == []  # type: ignore[arg-type]
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "")

    def test_a_slow_cluster_is_not_waited_for(self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        class Slow(MemoryCluster):
            async def list(self, resource: Resource, namespace: str | None = None, **_: Any) -> ObjectList:
                await asyncio.sleep(60)
                raise AssertionError

        cli.cluster = Slow()
        monkeypatch.setattr(completion, "PATIENCE_SECONDS", 0.2)
        started = time.monotonic()
        assert complete_jobs(Typed(), "") == []  # type: ignore[arg-type]
        assert time.monotonic() - started < 10

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_a_script_for_each_shell(self, shell: str) -> None:
        """In a process of its own: the script is made by an environment variable that must not stay."""
        program = Path(sys.executable).parent / "trainwright"
        result = subprocess.run([program, "completion", shell], capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0
        assert f"complete_{shell}" in result.stdout

"""`trainwright-publisher`: what the publisher's Job runs, and whoever signs an artifact by hand."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from trainwright_publisher.artifact import Artifact
from trainwright_publisher.publishing import publish as publish_artifact
from trainwright_publisher.refusal import EXIT_FAILED, EXIT_REFUSED, Failed, Reason, Refused
from trainwright_publisher.source import Source
from trainwright_publisher.storage import Storage
from trainwright_runtime.exits import say
from trainwright_runtime.remote import said

MESSAGE_BYTES = 4000
MESSAGE_CHARACTERS = 1000
TERMINATION_LOG = "/dev/termination-log"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


class ServerChoice(StrEnum):
    """The servers that a version can be made for."""

    tfserving = "tfserving"
    torchserve = "torchserve"
    sklearn = "sklearn"


SourceOption = Annotated[str, typer.Option("--source", help="The artifact: a directory, or a URI that fsspec reads (s3://…).")]
ServerOption = Annotated[ServerChoice, typer.Option("--server", help="The server that is to load it.")]
ModelsOption = Annotated[Path, typer.Option("--models", help="The storage of served models.")]


@app.command()
def verify(
    source: SourceOption,
    server: ServerOption,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", help="PEM file; the artifact must carry a signature made with its private key.")
    ] = None,
) -> None:
    """Read every file of an artifact, and say what it is."""

    def work() -> dict[str, Any]:
        artifact = Artifact(Source(source))
        artifact.verify()
        signed_by = None
        if public_key is not None:
            from trainwright_publisher import signing  # noqa: PLC0415 - it takes a second

            signed_by = signing.verify(artifact, public_key)
        artifact.loaded_by(server.value)
        manifest = artifact.manifest
        return {
            "ok": True,
            "digest": artifact.digest,
            "framework": manifest.framework,
            "recipe": manifest.recipe,
            "job": manifest.job,
            "uid": manifest.uid,
            "step": manifest.step,
            "time": manifest.time,
            "metrics": artifact.metrics(),
            "data": manifest.data.sha256,
            "test": manifest.data.test,
            "bytes": sum(file.bytes for file in manifest.files.values()),
            "files": len(manifest.files),
            "samples": artifact.samples(),
            "signedBy": signed_by,
        }

    _end(work)


@app.command()
def publish(
    source: SourceOption,
    server: ServerOption,
    digest: Annotated[str, typer.Option("--digest", help="sha256:… of its manifest.json, as verify has told it.")],
    model: Annotated[str, typer.Option("--model", help="The served model's name.")],
    version: Annotated[int, typer.Option("--version", min=1, help="The number that it is published as.")],
    models: ModelsOption,
) -> None:
    """Make what the server loads, and put it in place as one version. Doing it again is no fault."""
    _end(lambda: publish_artifact(source=source, server=server.value, digest=digest, model=model, version=version, models=models))


@app.command()
def remove(
    models: ModelsOption,
    version: Annotated[list[int], typer.Option("--version", min=1, help="A version to remove; may be given more than once.")],
) -> None:
    """Take published versions away. Those that are gone already are no fault."""

    def work() -> dict[str, Any]:
        storage = Storage(models)
        storage.clean()
        storage.remove(version)
        return {"ok": True, "removed": version}

    _end(work)


@app.command()
def sign(
    source: Annotated[Path, typer.Option("--source", help="The artifact's directory; model.sig is written into it.")],
    private_key: Annotated[Path, typer.Option("--private-key", help="PEM file with an unencrypted elliptic curve key.")],
) -> None:
    """Sign an artifact, so that a deployment that asks for signatures takes it."""

    def work() -> dict[str, Any]:
        from trainwright_publisher import signing  # noqa: PLC0415 - it takes a second

        return {"ok": True, "signature": str(signing.sign(source, private_key))}

    _end(work)


@app.command()
def receive(
    into: Annotated[Path, typer.Option("--into", help="The folder to make; its name is the sha256 of the artifact's manifest.")],
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="A folder beside it that is still needed; all others are removed.")
    ] = None,
    idle: Annotated[float, typer.Option("--idle", min=1, help="End when nobody has come for so many seconds.")] = 300.0,
) -> None:
    """Take an artifact that `trainwright publish FOLDER` sends, on TRAINWRIGHT_POD_IP:8080, and end.

    TRAINWRIGHT_TOKEN_SHA256 is the sha256 of the token that the sender has.
    """

    def work() -> dict[str, Any]:
        from trainwright_publisher import receiving  # noqa: PLC0415 - a web server, for this alone

        token = os.environ.get("TRAINWRIGHT_TOKEN_SHA256", "")
        if not re.fullmatch("[0-9a-f]{64}", token):
            raise Failed(f"TRAINWRIGHT_TOKEN_SHA256 must be the sha256 of a token, in hexadecimal, not {token!r}")
        if not re.fullmatch("[0-9a-f]{64}", into.name):
            raise Failed(f"--into: the folder's name must be the sha256 of a manifest, in hexadecimal, not {into.name!r}")
        address = os.environ.get("TRAINWRIGHT_POD_IP") or "127.0.0.1"
        return asyncio.run(receiving.receive(into, address=address, token_sha256=token, keep=keep or (), idle=idle))

    _end(work)


def _end(work: Callable[[], dict[str, Any]]) -> NoReturn:
    """Do it, leave the last words, and end with the exit code that goes with them."""
    signal.signal(signal.SIGTERM, _leave_when_asked)
    code = 0
    try:
        words = work()
    except Refused as refusal:
        words, code = _fault(refusal.reason, str(refusal)) | refusal.facts, EXIT_REFUSED
    except (Failed, OSError) as fault:
        words, code = _fault(Reason.FAILED, str(fault)), EXIT_FAILED
    except Exception as fault:  # a fault of ours: the operator is told something at least, and the log all
        traceback.print_exc()
        words, code = _fault(Reason.FAILED, said(fault)), EXIT_FAILED
    content = encoded(words)
    sys.stdout.write(f"{content}\n")
    sys.stdout.flush()
    _leave(content)
    raise SystemExit(code)


def _fault(reason: Reason, message: str) -> dict[str, Any]:
    line = " ".join(message.split())[:MESSAGE_CHARACTERS]
    say(line)
    return {"ok": False, "reason": str(reason), "message": line}


def encoded(words: dict[str, Any]) -> str:
    """As JSON of a size that Kubernetes keeps: metrics go first when there are too many."""
    while len((content := json.dumps(words, ensure_ascii=False)).encode()) > MESSAGE_BYTES:
        if metrics := words.get("metrics"):
            words = {**words, "metrics": dict(list(metrics.items())[:-1])}
        else:
            longest = max((key for key, value in words.items() if isinstance(value, str)), key=lambda key: len(words[key]))
            words = {**words, longest: words[longest][: len(words[longest]) // 2]}
    return content


def _leave(content: str) -> None:
    path = os.environ.get("TRAINWRIGHT_TERMINATION_LOG") or (TERMINATION_LOG if os.path.exists(TERMINATION_LOG) else None)
    if path is None:
        return
    try:
        Path(path).write_text(content)
    except OSError as error:
        say(f"the last words could not be written to {path}: {error.strerror}")


def _leave_when_asked(_signal: int, _frame: FrameType | None) -> NoReturn:
    # What lies aside is cleaned up on the way out; and the Job tries again.
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    """Entry point of `trainwright-publisher`."""
    app()


if __name__ == "__main__":
    main()

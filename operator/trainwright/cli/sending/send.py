"""From the folder to the claim: checked here, sent in pieces, taken up again where it stopped."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from trainwright.api.deployment import ModelDeployment
from trainwright.api.names import incoming_name
from trainwright.cli.app import UserError, err, note
from trainwright.cli.sending import receiver
from trainwright.cli.sending.folder import Artifact, File, read, sealed
from trainwright.cli.sending.line import Answer, Line
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import PODS, ClusterError, NotFound, Object

PIECE_BYTES = 8 << 20
LOOK_SECONDS = 0.3
# A file that doesn't arrive as it is here is sent once more, and no more often.
TRIES = 2


async def send(cluster: KubeCluster, deployment: ModelDeployment, folder: Path) -> dict[str, str]:
    """Bring the artifact to the deployment's claim; the offer's `claim` and `path`. Raises `UserError` or `ClusterError`."""
    _, files = sealed(folder)
    image = await receiver.image_of(cluster, deployment)
    with _progress() as progress:
        bar = progress.add_task("checking", total=sum(one.bytes for one in files))
        artifact = await asyncio.to_thread(read, folder, lambda amount: progress.advance(bar, amount))
        progress.remove_task(bar)
        await receiver.ensure_claim(cluster, deployment, artifact.bytes)
        token = secrets.token_hex(32)
        pod = await receiver.start(cluster, deployment, image=image, digest=artifact.digest, token=token)
        line = Line(cluster, pod["metadata"]["name"], deployment.namespace, token)
        try:
            waiting = progress.add_task("starting", total=None)
            address = await receiver.ready(cluster, pod, lambda why: progress.update(waiting, description=f"waiting: {why}"))
            progress.remove_task(waiting)
            await line.open(address)
            sent = await _transfer(line, artifact, progress)
        except ClusterError as error:
            raise await _broken(cluster, pod, error) from None
        except OSError as error:
            raise UserError(f"{folder}: {error.filename or 'a file'} can't be read any more: {error.strerror}") from None
        except asyncio.CancelledError:
            note("interrupted; the same command goes on where it stopped")
            raise
        finally:
            await line.close()
            await receiver.stop(cluster, pod)
    already = artifact.bytes - sent
    note(f"{sent} bytes sent" + (f", {already} were there already" if already else ""))
    return {"claim": incoming_name(deployment.name), "path": artifact.digest}


async def _transfer(line: Line, artifact: Artifact, progress: Progress) -> int:
    """Send what is missing; how many bytes that were."""
    others = {one.name: {"sha256": one.sha256, "bytes": one.bytes} for one in artifact.others}
    announced = json.dumps({"manifest": artifact.manifest.decode(), "others": others}).encode()
    answer = _expect(await line.ask("PUT", "/announce", announced))
    bar = progress.add_task("looking what is there", total=None)
    while not answer["ready"]:
        await asyncio.sleep(LOOK_SECONDS)
        answer = _expect(await line.ask("GET", "/state"))
    missing = {int(number): have for number, have in answer["missing"].items()}
    files = artifact.files
    to_send: int = sum(files[number].bytes - have for number, have in missing.items())
    progress.update(bar, description="sending", total=artifact.bytes, completed=artifact.bytes - to_send)
    for number, have in sorted(missing.items()):
        await _send_file(line, artifact.folder, number, files[number], have, progress, bar)
    _expect(await line.ask("PUT", "/finish"))
    return to_send


async def _send_file(line: Line, folder: Path, number: int, file: File, have: int, progress: Progress, bar: TaskID) -> None:
    tries = TRIES
    with (folder / file.name).open("rb") as stream:
        while True:
            stream.seek(have)
            piece = await asyncio.to_thread(stream.read, PIECE_BYTES)
            status, answer = await line.ask("PUT", f"/files/{number}?offset={have}", piece)
            if status == 200 and answer["whole"]:
                progress.advance(bar, len(piece))
                return
            if status == 200 and piece:
                progress.advance(bar, len(piece))
                have += len(piece)
                continue
            if status == 416 and answer["have"] != have:
                # An answer was lost on its way, and what was asked for was done.
                progress.advance(bar, answer["have"] - have)
                have = answer["have"]
                if have >= file.bytes:
                    return
                continue
            tries -= 1
            if status != 409 or not tries:
                raise UserError(f"{file.name} could not be sent: {answer.get('error', 'it has changed here meanwhile')}")
            progress.advance(bar, -have)
            have = 0


def _expect(answer: Answer) -> Object:
    status, content = answer
    if status >= 400:
        raise UserError(f"the artifact was not taken: {content.get('error', f'HTTP {status}')}")
    return content


async def _broken(cluster: KubeCluster, pod: Object, error: ClusterError) -> Exception:
    """What the pod says, where it is over; what went wrong otherwise."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    again = "the same command goes on where this one stopped"
    try:
        there = await cluster.get(PODS, name, namespace)
    except NotFound:
        return ClusterError(f"the pod {name}, which took the artifact, is gone; {again}", status=404)
    except ClusterError:
        return error
    ended = receiver.ending(there)
    if ended is None:
        return ClusterError(f"{error.message}; {again}", status=error.status)
    return ClusterError(f"the pod {name}, which took the artifact, has ended: {ended}; {again}", status=500)


@contextmanager
def _progress() -> Iterator[Progress]:
    """On stderr, and only on a terminal."""
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield progress

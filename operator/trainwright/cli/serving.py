"""Commands about served models: `versions`, `publish`, `promote`, `rollback`, `predict`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import typer
from rich.live import Live

from trainwright.api.deployment import ModelDeployment, parse, read_status
from trainwright.api.deployment_spec import ServerName
from trainwright.api.deployment_status import ModelDeploymentStatus, VersionState
from trainwright.api.names import CLIENT_PORT, DEPLOYMENT_LABEL, ROLE_LABEL, gateway_name
from trainwright.api.status import Phase
from trainwright.cli.app import Output, UserError, emit, note, out, show, whole
from trainwright.cli.connect import connected
from trainwright.cli.follow import get_job
from trainwright.cli.serving_views import deployment_view, deployments_table
from trainwright.cluster.port import EVENTS, MODEL_DEPLOYMENTS, PODS, Cluster, ClusterError, Conflict, Invalid, NotFound, Object

Where = tuple[Path | None, str | None]
POLL_SECONDS = 0.5
# How long an offer may stay unseen before we say that no operator seems to be there.
SEEN_SECONDS = 15.0
TIMEOUT_SECONDS = 60.0
_PATHS = {
    ServerName.TFSERVING: "/v1/models/{}:predict",
    ServerName.TORCHSERVE: "/predictions/{}",
    ServerName.SKLEARN: "/v2/models/{}/infer",
}


def versions(name: str | None, namespace: str | None, where: Where, *, follow: bool, output: Output) -> None:
    if follow and (name is None or output is not Output.TABLE):
        raise UserError("--follow needs the name of a deployment, and goes with no --output")
    asyncio.run(_versions(name, namespace, where, follow=follow, output=output))


async def _versions(name: str | None, namespace: str | None, where: Where, *, follow: bool, output: Output) -> None:
    async with connected(*where) as cluster:
        namespace = namespace or cluster.namespace
        if name is None:
            listed = (await cluster.list(MODEL_DEPLOYMENTS, namespace)).items
            if output is Output.TABLE:
                show(deployments_table(listed))
            else:
                emit({"deployments": [whole(raw) for raw in listed]}, output)
            return
        raw = await _get(cluster, name, namespace)
        if output is not Output.TABLE:
            emit(whole(raw), output)
        elif follow:
            await _follow(cluster, name, namespace, lambda status: status.candidate is None)
        else:
            show(deployment_view(raw, await _events(cluster, raw)))


def publish(what: str, to: str, namespace: str | None, where: Where, *, claim: str | None, follow: bool) -> None:
    asyncio.run(_publish(what, to, namespace, where, claim=claim, follow=follow))


async def _publish(what: str, to: str, namespace: str | None, where: Where, *, claim: str | None, follow: bool) -> None:
    async with connected(*where) as cluster:
        namespace = namespace or cluster.namespace
        raw = await _get(cluster, to, namespace)
        name = f"cli-{time.time_ns() // 1_000_000}"
        offer: dict[str, Any] = {"name": name}
        if claim:
            offer |= {"claim": claim, "path": what.strip("/")}
        elif "://" in what:
            offer["uri"] = what
        elif "/" in what or Path(what).is_dir():
            from trainwright.cli.sending.send import send  # noqa: PLC0415 - a few tenths of a second, for this alone

            offer |= await send(cluster, _typed(raw), Path(what))
            raw = await _get(cluster, to, namespace)
        else:
            job = await get_job(cluster, what, namespace)
            phase = (job.get("status") or {}).get("phase")
            if phase != Phase.SUCCEEDED:
                raise UserError(f"job {what} has not succeeded ({phase or 'New'}); what it leaves behind can be published then")
            offer["job"] = what
        known = {one.offer for one in read_status(raw).versions}
        # What has been taken need not be offered any longer.
        others = [one for one in raw["spec"].get("offers") or [] if f"offer/{one['name']}" not in known]
        await _change(cluster, raw, {"offers": [*others, offer]})
        out.print(f"{what} offered to {to}", soft_wrap=True)
        if not follow:
            note(f"follow it with: trainwright versions {to} -n {namespace} --follow")
            return
        taken = await _follow(cluster, to, namespace, lambda status: _decided(status, name))
        if _state(taken, name) not in (VersionState.LIVE, VersionState.PREVIOUS, VersionState.KEPT):
            raise typer.Exit(1)


def promote(name: str, version: int | None, namespace: str | None, where: Where) -> None:
    asyncio.run(_promote(name, version, namespace, where))


async def _promote(name: str, version: int | None, namespace: str | None, where: Where) -> None:
    async with connected(*where) as cluster:
        raw = await _get(cluster, name, namespace or cluster.namespace)
        deployment = _typed(raw)
        candidate = deployment.status.candidate
        if candidate is None:
            live = f"version {deployment.status.live} is live" if deployment.status.live else "no version is live"
            raise UserError(f"{name} has no version on its way; {live}. To go to a kept one: trainwright rollback {name} VERSION")
        if version not in (None, candidate.version):
            raise UserError(f"version {version} is not on its way; {candidate.version} is")
        await _change(cluster, raw, {"promote": candidate.version})
        out.print(f"version {candidate.version} goes live as soon as it is loaded and checked")


def rollback(name: str, version: int | None, namespace: str | None, where: Where, *, undo: bool, follow: bool) -> None:
    if undo and version is not None:
        raise UserError("--undo goes with no version")
    asyncio.run(_rollback(name, version, namespace, where, undo=undo, follow=follow))


async def _rollback(name: str, version: int | None, namespace: str | None, where: Where, *, undo: bool, follow: bool) -> None:
    async with connected(*where) as cluster:
        namespace = namespace or cluster.namespace
        raw = await _get(cluster, name, namespace)
        deployment = _typed(raw)
        status = deployment.status
        if undo:
            if deployment.spec.pin is None:
                out.print(f"{name} is not pinned; new versions come as they are offered")
                return
            await _change(cluster, raw, {"pin": None})
            out.print(f"{name} takes new versions again; version {status.live} stays live until one of them passes")
            return
        wanted = version or (status.live if status.candidate is not None else status.previous)
        kept = sorted(one.version for one in status.versions if one.state.servable and one.record)
        if wanted is None or wanted not in kept:
            what = f"version {version}" if version else "a previous version"
            raise UserError(f"{name} has not kept {what}; there are {', '.join(map(str, kept)) or 'none'}")
        await _change(cluster, raw, {"pin": wanted, "promote": None})
        out.print(f"{name} goes to version {wanted} and stays there; trainwright rollback {name} --undo lets new ones come")
        if follow:
            await _follow(cluster, name, namespace, lambda now: now.live == wanted and now.candidate is None)


def predict(name: str, file: Path, namespace: str | None, where: Where, *, version: int | None, url: str | None) -> None:
    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    answer, status, by = asyncio.run(_predict(name, body, namespace, where, version=version, url=url))
    sys.stdout.write(answer if answer.endswith("\n") else f"{answer}\n")
    note(f"{by}; HTTP {status}")
    if status >= 400:
        raise typer.Exit(1)


async def _predict(
    name: str, body: bytes, namespace: str | None, where: Where, *, version: int | None, url: str | None
) -> tuple[str, int, str]:
    async with connected(*where) as cluster:
        namespace = namespace or cluster.namespace
        deployment = _typed(await _get(cluster, name, namespace))
        places = [url.rstrip("/")] if url else await _gateways(cluster, name, namespace)
    path = _PATHS[deployment.spec.server].format(name)
    headers = {"content-type": "application/json"} | ({"x-trainwright-version": str(version)} if version else {})
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, sock_connect=2.0)
    refused = ""
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for place in places:
            try:
                async with session.post(f"{place}{path}", data=body, headers=headers) as response:
                    who = response.headers.get("x-trainwright-version", "?")
                    by = f"version {who}, request {response.headers.get('x-request-id', '?')}"
                    return await response.text(), response.status, by
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                refused = str(error) or "no answer in time"
    if not places:
        raise UserError(f"no gateway of {name} runs; trainwright versions {name} says why")
    forward = f"kubectl port-forward -n {namespace} service/{gateway_name(name)} 8080:80"
    raise UserError(
        f"{name}'s gateway can't be reached from here ({refused}); forward a port, and name it: {forward}, then --url http://127.0.0.1:8080"
    )


async def _gateways(cluster: Cluster, name: str, namespace: str) -> list[str]:
    pods = (await cluster.list(PODS, namespace, labels={DEPLOYMENT_LABEL: name, ROLE_LABEL: "gateway"})).items
    running = [
        pod["status"]["podIP"]
        for pod in pods
        if pod.get("status", {}).get("podIP") and "deletionTimestamp" not in pod["metadata"]
    ]
    return [f"http://{address}:{CLIENT_PORT}" for address in running]


async def _get(cluster: Cluster, name: str, namespace: str) -> Object:
    try:
        return await cluster.get(MODEL_DEPLOYMENTS, name, namespace)
    except NotFound as error:
        if "not found" not in error.message or name not in error.message:
            raise
        names = [raw["metadata"]["name"] for raw in (await cluster.list(MODEL_DEPLOYMENTS, namespace)).items]
        raise UserError(
            f"there is no ModelDeployment {name} in namespace {namespace}; there are {', '.join(names) or 'none'}"
        ) from None


def _typed(raw: Object) -> ModelDeployment:
    return parse(raw)


async def _change(cluster: Cluster, raw: Object, spec: dict[str, Any]) -> None:
    """Change the spec. A list is written whole, so nobody else may have changed it meanwhile."""
    metadata = raw["metadata"]
    unchanged = {"metadata": {"resourceVersion": metadata["resourceVersion"]}} if "offers" in spec else {}
    try:
        await cluster.patch(MODEL_DEPLOYMENTS, metadata["name"], metadata["namespace"], {**unchanged, "spec": spec})
    except Conflict:
        raise UserError(f"{metadata['name']} was changed at the same moment; say it again") from None
    except Invalid as error:
        raise UserError(error.message) from None


def _state(status: ModelDeploymentStatus, offer: str) -> VersionState | None:
    return next((one.state for one in status.versions if one.offer == f"offer/{offer}"), None)


def _decided(status: ModelDeploymentStatus, offer: str) -> bool:
    return _state(status, offer) not in (None, VersionState.CANDIDATE)


async def _follow(cluster: Cluster, name: str, namespace: str, done: Any) -> ModelDeploymentStatus:
    """Show a deployment until `done` says so of its status."""
    raw = await _get(cluster, name, namespace)
    started = time.monotonic()
    with Live(deployment_view(raw, []), console=out, refresh_per_second=4, transient=not out.is_terminal) as live:
        while True:
            status = read_status(raw)
            live.update(deployment_view(raw, []))
            if done(status):
                break
            if status.observed_generation is None and time.monotonic() - started > SEEN_SECONDS:
                note(f"nobody has looked at {name} for {SEEN_SECONDS:.0f} s; is an operator there? trainwright doctor")
                started = float("inf")
            await asyncio.sleep(POLL_SECONDS)
            raw = await _get(cluster, name, namespace)
    if not out.is_terminal:
        show(deployment_view(raw, []))
    return read_status(raw)


async def _events(cluster: Cluster, raw: Object) -> list[Object]:
    try:
        listed = (await cluster.list(EVENTS, raw["metadata"]["namespace"])).items
    except ClusterError:
        return []
    return [one for one in listed if one.get("involvedObject", {}).get("uid") == raw["metadata"].get("uid")]

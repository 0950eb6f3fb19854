"""The way of a version: verify, gate, publish, load, canary. Each step looks at what is there, and either goes on, waits with a
reason, or ends the version with the figures that decided; so each can be taken up by another operator at any moment.
"""

from __future__ import annotations

from typing import Any

from trainwright.api.deployment_spec import SmokeMode
from trainwright.api.deployment_status import Candidate, DeploymentConditionType, Step, Version, VersionState
from trainwright.api.names import task_name
from trainwright.api.reasons import Reason
from trainwright.observe.gateway import VersionReport, together
from trainwright.observe.serving import Offer, Task, TaskState
from trainwright.observe.times import rfc3339, seconds
from trainwright.plan.serving import canary, gate, tasks
from trainwright.plan.serving.draft import Draft
from trainwright.plan.serving.routes import window
from trainwright.plan.serving.status import bounded, with_conditions
from trainwright.servers import server

Say = DeploymentConditionType
PENDING_RECORD = "pending"
"""The record of a version that is being published: there may be files by now, or not."""
SMOKE_WAIT_SECONDS = 2.0
_CONDITIONS = (Say.VERIFIED, Say.GATED, Say.PUBLISHED, Say.LOADED, Say.CANARY_PASSED)


def advance(draft: Draft) -> None:
    """Take the candidate, or the next one, as far as it goes now."""
    _give_way_to_pin(draft)
    for _ in range(2 * len(Step)):
        if draft.candidate is None:
            _take(draft)
        before = draft.candidate
        if before is None:
            return
        _STEPS[before.step](draft)
        after = draft.candidate
        if after is not None and (after.version, after.step, after.canary_step) == (
            before.version,
            before.step,
            before.canary_step,
        ):
            return


def _give_way_to_pin(draft: Draft) -> None:
    pin = draft.deployment.spec.pin
    candidate = draft.candidate
    if pin is None or candidate is None or candidate.version == pin:
        return
    message = f"spec.pin asks for version {pin}"
    if draft.version.state.servable:
        draft.status = draft.status.model_copy(update={"candidate": None})
    elif candidate.step in (Step.LOAD, Step.CANARY):
        draft.roll_back(Say.CANARY_PASSED, Reason.PINNED, message)
    else:
        draft.refuse(Say.CANARY_PASSED, Reason.PINNED, message)


def _take(draft: Draft) -> None:
    """Make the pinned version, or the next offer, the candidate."""
    spec, status = draft.deployment.spec, draft.status
    if spec.pin is not None:
        _take_pinned(draft, spec.pin)
        return
    offer = _next_offer(draft)
    if offer is None:
        if status.live is None and not status.versions:
            draft.wait("no version yet: a TrainingJob with spec.publish, or `trainwright publish`, offers one")
        return
    number = status.last_version + 1
    made = Version(
        version=number,
        state=VersionState.CANDIDATE,
        offer=offer.key,
        job=offer.job,
        since=rfc3339(draft.now),
        offered=offer.offered or rfc3339(draft.now),
    )
    until = max(filter(None, (status.offered_until, offer.offered if offer.key.startswith("job/") else None)), default=None)
    update: dict[str, Any] = {
        "versions": bounded(draft.deployment, [made, *status.versions]),
        "last_version": number,
        "offered_until": until,
        "candidate": Candidate(version=number, step=Step.VERIFY, since=rfc3339(draft.now)),
    }
    draft.status = status.model_copy(update=update)
    source = f"job {offer.job}" if offer.job else offer.uri or f"claim {offer.claim}"
    said = f"version {number}: taken from {source}"
    sayings = [(kind, False, Reason.OFFER_TAKEN, said) for kind in _CONDITIONS]
    draft.status = with_conditions(draft.status, draft.deployment, draft.now, *sayings)
    draft.tell(Reason.OFFER_TAKEN, said, f"v{number}-taken")


def _take_pinned(draft: Draft, pin: int) -> None:
    status = draft.status
    if pin == status.live:
        draft.wait(f"pinned to version {pin}: no other is taken until spec.pin is unset")
        return
    pinned = status.version(pin)
    if pinned is None or not pinned.state.servable or pinned.record is None:
        kept = ", ".join(str(one.version) for one in status.versions if one.state.servable and one.record)
        draft.wait(f"spec.pin names version {pin}, which is not kept; there are {kept or 'none'}")
        return
    candidate = Candidate(version=pin, step=Step.LOAD, since=rfc3339(draft.now))
    draft.status = status.model_copy(update={"candidate": candidate})
    draft.tell(Reason.PINNED, f"going to version {pin}, as spec.pin asks", f"v{pin}-pinned-{draft.deployment.generation}")


def _next_offer(draft: Draft) -> Offer | None:
    """The first offer that hasn't been taken. Of jobs that ended before the deployment was made, only the newest counts."""
    status = draft.status
    taken = {one.offer for one in status.versions}
    new = [offer for offer in draft.served.offers if offer.key not in taken]
    of_jobs = [offer for offer in new if offer.key.startswith("job/") and offer.offered >= (status.offered_until or "")]
    if status.offered_until is None:
        early = [offer for offer in of_jobs if offer.offered < draft.deployment.created]
        of_jobs = [offer for offer in of_jobs if offer not in early[:-1]]
    by_hand = [offer for offer in new if not offer.key.startswith("job/")]
    return next(iter([*of_jobs, *by_hand]), None)


def _verify(draft: Draft) -> None:
    offer = _offer(draft)
    if offer is None:
        return
    task = _task(draft, "verify", lambda: tasks.verify(draft.deployment, draft.version, offer, draft.settings))
    if task is None:
        return
    if task.state is TaskState.FAILED or not task.words.get("ok"):
        draft.refuse(Say.VERIFIED, Reason.ARTIFACT_REFUSED, task.message)
        return
    facts = task.words
    number, live = draft.version.version, draft.status.version(draft.status.live)
    metrics = {str(name): float(value) for name, value in (facts.get("metrics") or {}).items()}
    draft.note(digest=facts.get("digest"), metrics=metrics, test=facts.get("test"), job=draft.version.job or facts.get("job"))
    if live is not None and live.digest == facts.get("digest"):
        draft.refuse(Say.VERIFIED, Reason.ARTIFACT_REFUSED, f"it is the very artifact of live version {live.version}")
        return
    signed = ", signed" if facts.get("signedBy") else ""
    said = f"{facts.get('files', '?')} files, {_size(facts.get('bytes'))}{signed}: all as the manifest says"
    draft.say(Say.VERIFIED, True, Reason.ARTIFACT_VERIFIED, said)
    draft.enter(Step.GATE)
    draft.wait(f"version {number}: gates")


def _gate(draft: Draft) -> None:
    offer = next((one for one in draft.served.offers if one.key == draft.version.offer), None)
    gates = [*draft.deployment.spec.gates, *(offer.gates if offer else ())]
    held, broken = gate.judged(gates, draft.version, draft.status.version(draft.status.live))
    if broken:
        draft.refuse(Say.GATED, Reason.GATES_FAILED, "; ".join(broken))
        return
    draft.say(Say.GATED, True, Reason.GATES_PASSED, "; ".join(held) or "no gates")
    draft.enter(Step.PUBLISH)
    draft.note(record=PENDING_RECORD)


def _publish(draft: Draft) -> None:
    offer = _offer(draft)
    if offer is None:
        return
    task = _task(draft, "publish", lambda: tasks.publish(draft.deployment, draft.version, offer, draft.settings))
    if task is None:
        return
    if isinstance(highest := task.words.get("highest"), int) and highest >= draft.version.version:
        # Versions of an earlier deployment of this name lie in the claim.
        draft.renumber(highest + 1)
        return
    if task.state is TaskState.FAILED or not task.words.get("ok"):
        draft.refuse(Say.PUBLISHED, Reason.PUBLISH_FAILED, task.message)
        return
    draft.note(record=task.words.get("record"))
    draft.say(Say.PUBLISHED, True, Reason.VERSION_PUBLISHED, f"{_size(task.words.get('bytes'))} where servers load from")
    draft.enter(Step.LOAD)


def _load(draft: Draft) -> None:
    """Loaded by as many servers as asked for, warm, and right, as every gateway says."""
    spec, candidate, version = draft.deployment.spec, draft.candidate, draft.version
    assert candidate is not None  # noqa: S101 - a step has one
    each = server(spec.server).a_version_each
    pods = draft.served.servers(version.version if each else None)
    ready = [pod for pod in pods if pod.ready]
    gateways = [pod for pod in draft.served.gateways if pod.ready]
    words = [draft.served.reports.get(pod.name) for pod in gateways]
    told = [report.versions.get(version.version) if report else None for report in words]
    reports = [one for one in told if one is not None]
    going_back = version.state.servable
    failed = next((one for one in reports if one.smoke == "failed"), None)
    if failed is not None and spec.smoke.mode is SmokeMode.RECORDED and not going_back:
        draft.roll_back(Say.LOADED, Reason.LOAD_FAILED, f"smoke predictions: {failed.why}")
        return
    if waits := _not_loaded(draft, pods=len(pods), ready=len(ready), reports=reports, gateways=len(gateways)):
        why = next((pod.waiting for pod in pods if pod.waiting), "")
        message = f"{waits}{f': {why}' if why else ''}"
        left = spec.smoke.load_timeout_seconds - (draft.now - (seconds(candidate.since) or draft.now))
        if left <= 0 and not going_back:
            draft.roll_back(Say.LOADED, Reason.LOAD_FAILED, f"not loaded within {spec.smoke.load_timeout_seconds} s: {message}")
            return
        draft.wait(f"version {version.version}: {message}", max(SMOKE_WAIT_SECONDS, left))
        return
    smoke = reports[0].why if spec.smoke.mode is SmokeMode.RECORDED else "not checked"
    draft.say(Say.LOADED, True, Reason.VERSION_LOADED, f"{len(ready)} servers are ready; smoke predictions: {smoke or 'passed'}")
    promoted = spec.promote == version.version
    if draft.status.live is None or going_back or promoted or not spec.canary.steps:
        why = (
            "first version"
            if draft.status.live is None
            else "spec.pin"
            if going_back
            else "spec.promote"
            if promoted
            else "no canary"
        )
        draft.say(Say.CANARY_PASSED, True, Reason.CANARY_PASSED, f"without a canary ({why})")
        draft.go_live(why)
        return
    _enter_canary(draft, 0)


def _not_loaded(draft: Draft, *, pods: int, ready: int, reports: list[VersionReport], gateways: int) -> str:
    wanted = draft.deployment.spec.replicas
    if ready < wanted or not pods:
        return f"{ready} of {wanted} servers are ready"
    if not gateways:
        return "no gateway is ready"
    if len(reports) < gateways:
        return f"{gateways - len(reports)} of {gateways} gateways have not told of it"
    if not all(one.available for one in reports):
        return (
            next((one.why for one in reports if not one.available and one.why), "")
            or "its servers don't say that it is available"
        )
    if not all(one.warmed for one in reports):
        return "warming up"
    recorded = draft.deployment.spec.smoke.mode is SmokeMode.RECORDED
    going_back = draft.version.state.servable
    if recorded and not going_back and not all(one.smoke == "passed" for one in reports):
        return "smoke predictions"
    return ""


def _enter_canary(draft: Draft, index: int) -> None:
    step = draft.deployment.spec.canary.steps[index]
    number = draft.version.version
    draft.enter(Step.CANARY, canary_step=index, canary_since=rfc3339(draft.now), weight=step.weight)
    asked = f"for {step.hold_seconds} s and {step.min_requests} requests at least"
    draft.tell(Reason.CANARY_STEP, f"version {number} gets {step.weight} % of requests, {asked}", f"v{number}-canary-{index}")
    draft.wait(f"version {number} at {step.weight} %: 0 of {step.min_requests} requests")


def _canary(draft: Draft) -> None:
    spec, status, candidate = draft.deployment.spec, draft.status, draft.candidate
    assert candidate is not None  # noqa: S101 - a step has one
    number, live = candidate.version, status.live
    if spec.promote == number:
        draft.say(Say.CANARY_PASSED, True, Reason.CANARY_PASSED, "spec.promote asks for it")
        draft.go_live("spec.promote")
        return
    index = candidate.canary_step or 0
    if live is None or index >= len(spec.canary.steps):
        draft.say(Say.CANARY_PASSED, True, Reason.CANARY_PASSED, "no step of the canary is left")
        draft.go_live("no step of the canary is left")
        return
    step = spec.canary.steps[index]
    reports = draft.served.reports.values()
    new, old = together(reports, number, window(status)), together(reports, live, window(status))
    elapsed = max(0.0, draft.now - (seconds(candidate.canary_since) or draft.now))
    verdict = canary.judge(spec.canary, step, new, old, elapsed)
    seen = [canary.figures(number, new), canary.figures(live, old)]
    drift = None if verdict.drift is None else round(verdict.drift, 3)
    update = {"figures": seen, "drift": drift, "weight": step.weight}
    draft.status = status.model_copy(update={"candidate": candidate.model_copy(update=update)})
    at = f"at {step.weight} %: {verdict.message}"
    match verdict.verdict:
        case canary.Verdict.FAIL:
            draft.roll_back(Say.CANARY_PASSED, Reason.CANARY_FAILED, at)
        case canary.Verdict.WAIT:
            draft.wait(f"version {number} {at}", verdict.seconds)
        case canary.Verdict.PASS if index + 1 < len(spec.canary.steps):
            _enter_canary(draft, index + 1)
        case canary.Verdict.PASS:
            draft.say(Say.CANARY_PASSED, True, Reason.CANARY_PASSED, at)
            draft.go_live(at)


_STEPS = {Step.VERIFY: _verify, Step.GATE: _gate, Step.PUBLISH: _publish, Step.LOAD: _load, Step.CANARY: _canary}


def _offer(draft: Draft) -> Offer | None:
    """The candidate's offer; a version whose artifact is no longer offered is refused."""
    found = next((one for one in draft.served.offers if one.key == draft.version.offer), None)
    if found is None:
        what = (
            f"job {draft.version.job} was deleted or no longer publishes here" if draft.version.job else "the offer was withdrawn"
        )
        verifying = draft.candidate is not None and draft.candidate.step is Step.VERIFY
        kind, reason = (Say.VERIFIED, Reason.ARTIFACT_REFUSED) if verifying else (Say.PUBLISHED, Reason.PUBLISH_FAILED)
        draft.refuse(kind, reason, what)
    return found


def _task(draft: Draft, name: str, make: Any) -> Task | None:
    """The finished task of the candidate's step; None as long as there is none, which is then made, or made anew."""
    number = draft.version.version
    task = draft.served.tasks.get(task_name(draft.deployment.name, number, name))
    doing = {"verify": "the artifact is being verified", "publish": "the artifact is being published"}[name]
    if task is None:
        draft.tasks.append(make())
        draft.wait(f"version {number}: {doing}")
        return None
    if task.state is TaskState.RUNNING:
        draft.wait(f"version {number}: {doing} ({task.waiting})" if task.waiting else f"version {number}: {doing}")
        return None
    if task.state is TaskState.SUCCEEDED and "ok" not in task.words:
        # Its pod went before it was read; what it did can be done again.
        draft.rerun.append(task.name)
        draft.wait(f"version {number}: {doing} (again: the pod is gone that knew)", 1.0)
        return None
    return task


def _size(amount: Any) -> str:
    number = float(amount or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"

"""One pass over one job: observe, plan, carry out, write status once, tell. Nothing is kept that can't be seen again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from trainwright.api.deployment_status import Version
from trainwright.api.errors import FieldError, InvalidSpec
from trainwright.api.job import TrainingJob, parse, read_status
from trainwright.api.names import JOB_LABEL, claim_name
from trainwright.api.reasons import Reason
from trainwright.api.recipes import problems
from trainwright.api.spec import FrameworkName, TrainingJobSpec
from trainwright.api.status import ConditionType, Phase, TrainingJobStatus
from trainwright.cluster.port import PODS, TRAINING_JOBS, Cluster, NotFound, Object
from trainwright.controller.admissions import Admissions
from trainwright.controller.events import tell
from trainwright.controller.execute import Executor
from trainwright.controller.metrics import Metrics
from trainwright.controller.passes import Passes
from trainwright.controller.patches import difference
from trainwright.controller.schedulers import Schedulers
from trainwright.controller.store import Store
from trainwright.controller.telemetry import Telemetry
from trainwright.frameworks import framework
from trainwright.observe.observed import Observed, observe
from trainwright.observe.times import seconds
from trainwright.observe.workers import Worker, WorkerState, observe_worker
from trainwright.plan.plan import plan
from trainwright.plan.status import concluded, with_conditions
from trainwright.plan.types import Event, Plan, Settings

log = logging.getLogger(__name__)

# Progress is written at most this often; a change of phase at once.
STATUS_INTERVAL_SECONDS = 1.0
# How long counts of workers, or a step on the way to running, must last to be worth a write.
PASSING_SECONDS = 2.0
MAX_REMEMBERED = 50_000
# Something was refused that nothing will announce as mended: a quota, a name that is taken.
REFUSED_RETRY_SECONDS = 5.0
_WAITING = {Phase.QUEUED, Phase.STARTING}
"""A job passes through these in moments when there is room for it."""


class Reconciler:
    """`children` hold one copy for each kind of child; `offered` says what became of a job's artifact at the deployment that it
    publishes to; `serves_from` names the deployment whose models lie in a claim; `schedulers` keep the objects that providers are
    told by; `admissions` say when a job's pods may be made; `on_status` is told of a job whose status we have written, and
    `on_phase` when that changed its phase: our own writes wake nobody; `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        jobs: Store,
        pods: Store,
        children: list[Store],
        telemetry: Telemetry,
        metrics: Metrics,
        settings: Settings,
        offered: Callable[[TrainingJob], Version | None] = lambda _: None,
        serves_from: Callable[[str, str], str | None] = lambda *_: None,
        admissions: Admissions,
        on_phase: Callable[[Object], None] = lambda _: None,
        on_status: Callable[[Object], None] = lambda _: None,
        schedulers: Schedulers | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._jobs = jobs
        self._pods = pods
        self._children = children
        self._telemetry = telemetry
        self._metrics = metrics
        self._settings = settings
        self._offered = offered
        self._serves_from = serves_from
        self._admissions = admissions
        self._on_phase, self._on_status = on_phase, on_status
        self._schedulers = schedulers
        self._clock = clock
        self._passes = Passes(cluster, jobs, metrics)
        self._written: dict[str, float] = {}
        self._noticed: dict[str, float] = {}
        self._read: dict[str, tuple[str, Worker | None]] = {}
        self._executor = Executor(cluster, self._put, schedulers.drop if schedulers else lambda _: None)

    async def reconcile(self, key: str) -> float | None:
        """One pass; returns in how many seconds another is wanted. Raises what the API raised, after logging it."""
        return await self._passes.run(key, self._pass)

    async def _pass(self, key: str) -> float | None:
        namespace, name = key.split("/", 1)
        raw = self._jobs.get(namespace, name)
        if self._schedulers is not None:
            for patch in self._schedulers.left(namespace, name, raw, self._pods.labelled(namespace, name)):
                await self._executor.patch(patch)
        if raw is None:
            self._forget(key)
            return None
        try:
            job = parse(raw)
            if job.status.phase is None and self._has_our_recipes(job) and (wrong := problems(raw["spec"])):
                raise InvalidSpec(wrong)
            workspace = job.spec.workspace
            claim = workspace.claim or (claim_name(job.name) if workspace.size else None)
            if claim and not job.status.finished and (owner := self._serves_from(namespace, claim)):
                said = f"{claim} holds the models that deployment {owner} serves; only its publisher may write there"
                raise InvalidSpec([FieldError(f"spec.workspace.{'claim' if workspace.claim else 'size'}", said)])
        except InvalidSpec as error:
            await self._refuse(raw, error)
            return None
        decided = self._decide(job, self._pods.labelled(namespace, name))
        if decided.delete or decided.remove or decided.patch or (decided.status.attempt or 1) != job.attempt:
            # Our copy may lag behind; nothing is destroyed, and no attempt given up, on hearsay.
            listed = await self._cluster.list(PODS, namespace, labels={JOB_LABEL: name})
            decided = self._decide(job, listed.items)
        refused = await self._executor.carry_out(job, decided) if not decided.empty else None
        if refused is not None and decided.create:
            self._admissions.refused(job, refused)
        status = decided.status if refused is None else _refused(job, decided.status, refused, self._clock())
        later = decided.requeue_after if refused is None else REFUSED_RETRY_SECONDS
        wait = await self._write(key, raw, job, status)
        if wait is None:
            for event in decided.events if refused is None else ():
                await self._tell(job, event)
        # Our own write wakes nobody, since the store knows it already; a new phase or attempt may call for more.
        more = 0.0 if wait is None and (status.phase, status.attempt) != (job.status.phase, job.status.attempt) else None
        wishes = [wish for wish in (later, wait, more) if wish is not None]
        return min(wishes) if wishes else None

    def _has_our_recipes(self, job: TrainingJob) -> bool:
        """Who brings images of another registry, or one of their own, may have other recipes in them."""
        settings = self._settings
        return settings.registry == Settings.registry and framework(job.spec.framework).image not in settings.images

    def _decide(self, job: TrainingJob, pods: list[Object]) -> Plan:
        key = f"{job.namespace}/{job.name}"
        children = [child for store in self._children for child in store.labelled(job.namespace, job.name)]
        observed = observe(
            uid=job.uid,
            pods=pods,
            children=children,
            departed=self._pods.departed(job.namespace, job.name),
            progress=self._telemetry.latest(key),
            offered=self._offered(job) if job.spec.publish else None,
            read=self._read_worker,
        )
        self._follow(key, job, observed)
        now = self._clock()
        decided = plan(job, observed, now, self._settings, self._admissions.answer(job))
        return self._schedulers.with_upkeep(job, observed, decided, now) if self._schedulers else decided

    def _put(self, made: Object) -> None:
        """Take over what the API stored, so that the next pass knows it before the watch tells."""
        for store in (self._pods, *self._children):
            if (store.resource.api_version, store.resource.kind) == (made["apiVersion"], made["kind"]):
                store.put(made)
                return
        if self._schedulers is not None:
            self._schedulers.put(made)

    def _read_worker(self, pod: Object) -> Worker | None:
        """A pod's worker, read once for each version of the pod: every event of one pod has all of its gang looked at."""
        metadata = pod["metadata"]
        version, worker = self._read.get(metadata["uid"], ("", None))
        if version != metadata["resourceVersion"]:
            if len(self._read) > MAX_REMEMBERED:
                self._read.clear()
            worker = observe_worker(pod)
            self._read[metadata["uid"]] = (metadata["resourceVersion"], worker)
        return worker

    def _follow(self, key: str, job: TrainingJob, observed: Observed) -> None:
        """Ask worker 0 of the current attempt for progress as long as it runs."""
        leader = next((one for one in observed.of(job.attempt) if one.index == 0 and one.state is WorkerState.RUNNING), None)
        if leader is not None and leader.address and not job.status.finished:
            self._telemetry.watch(key, leader.address)
        else:
            self._telemetry.unwatch(key)

    async def _write(self, key: str, raw: Object, job: TrainingJob, status: TrainingJobStatus) -> float | None:
        """Write status if it differs; or say in how many seconds it may be written."""
        patch = difference(raw.get("status") or {}, status.wire()) if status != job.status else {}
        if not patch:
            self._noticed.pop(key, None)
            return None
        now = self._clock()
        if (wait := self._held_back(key, job.status, status, now)) > 0:
            return wait
        body = {"metadata": {"resourceVersion": job.resource_version}, "status": patch}
        stored = await self._patch(job, body)
        self._written[key] = now
        self._noticed.pop(key, None)
        self._count(job, status)
        if stored is not None:
            self._jobs.put(stored)
            self._on_status(stored)
            if status.phase is not job.status.phase:
                self._on_phase(stored)
        return None

    def _held_back(self, key: str, old: TrainingJobStatus, new: TrainingJobStatus, now: float) -> float:
        """Seconds until a change that is of no great matter may be written: progress at a bounded rate, and what may be
        overtaken in a moment (a gang on its way to running, workers that end one after the other) once it has lasted.
        """
        same = new.attempt == old.attempt and new.conditions == old.conditions
        if not same or (new.phase is not old.phase and {new.phase, old.phase} != _WAITING):
            return 0.0
        if new.progress != old.progress or new.metrics != old.metrics or new.checkpoint != old.checkpoint:
            since, patience = self._written.get(key, 0.0), STATUS_INTERVAL_SECONDS
        else:
            since, patience = self._noticed.setdefault(key, now), PASSING_SECONDS
        # Where the clock has jumped, nothing is held back.
        return wait if 0 < (wait := since + patience - now) <= patience else 0.0

    async def _patch(self, job: TrainingJob, body: Object) -> Object | None:
        try:
            return await self._cluster.patch(TRAINING_JOBS, job.name, job.namespace, body, subresource="status")
        except NotFound:
            self._forget(f"{job.namespace}/{job.name}")
            self._jobs.drop(job.namespace, job.name)
            return None

    def _count(self, job: TrainingJob, status: TrainingJobStatus) -> None:
        if status.start_time and not job.status.start_time:
            created, started = seconds(job.created), seconds(status.start_time)
            if created is not None and started is not None:
                self._metrics.start_seconds.observe(max(0.0, started - created))

    async def _refuse(self, raw: Object, error: InvalidSpec) -> None:
        """A job that got past the schema and still can't be: say what is wrong, once."""
        metadata = raw["metadata"]
        status = read_status(raw)
        if status.phase is Phase.FAILED:
            return
        job = TrainingJob.of(raw, TrainingJobSpec(framework=FrameworkName.NONE))
        failed = concluded(status, job, self._clock(), phase=Phase.FAILED, reason=Reason.INVALID_SPEC, message=str(error))
        patch = difference(raw.get("status") or {}, failed.wire())
        stored = await self._patch(job, {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": patch})
        if stored is not None:
            self._jobs.put(stored)
            await self._tell(job, Event(reason=Reason.INVALID_SPEC, message=str(error), key="invalid"))

    async def _tell(self, job: TrainingJob, event: Event) -> None:
        await tell(self._cluster, TRAINING_JOBS, job.namespace, job.name, job.uid, event, self._clock())

    def _forget(self, key: str) -> None:
        self._telemetry.unwatch(key)
        self._written.pop(key, None)
        self._noticed.pop(key, None)


def _refused(job: TrainingJob, status: TrainingJobStatus, why: str, now: float) -> TrainingJobStatus:
    """The status of a pass that could not create all it wanted."""
    waiting = status.model_copy(update={"phase": Phase.QUEUED, "reason": why})
    return with_conditions(waiting, job, now, (ConditionType.CREATED, False, Reason.GANG_INCOMPLETE, why))

"""The providers that are told by objects, in this cluster: which of their APIs it serves, what they answer and want done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from trainwright.api.job import TrainingJob
from trainwright.api.names import JOB_LABEL, MANAGED_BY_LABEL, MANAGER
from trainwright.api.scheduling import ProviderName
from trainwright.cluster.port import TRAINING_JOBS, Cluster, Object, Resource
from trainwright.controller.default_provider import DefaultProvider
from trainwright.controller.optional_kinds import DISCOVERY_SECONDS, Discover, OptionalKinds, keep_asking
from trainwright.controller.store import Store
from trainwright.observe.observed import Observed, owned
from trainwright.plan.objects import stage, with_upkeep
from trainwright.plan.pods import worker_pod
from trainwright.plan.types import Plan, Settings
from trainwright.schedulers.base import UNDECIDED, Admission, Provider, State
from trainwright.schedulers.kueue import let_go
from trainwright.schedulers.objects import Gang, Patch, Pods, bounded, unserved
from trainwright.schedulers.told import providers

OBJECT_KINDS = tuple(
    Resource(kind, plural, one.api.group, version)
    for one in providers({}).values()
    for version in one.api.versions
    for kind, plural in one.api.kinds.items()
)


class Schedulers:
    """`wake` is told of an object that came, changed or went, `wake_all` when an API did. `wanted`: providers that jobs name."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str | None,
        settings: Settings,
        default: DefaultProvider,
        wake: Callable[[Object], None],
        wake_all: Callable[[], None],
        wanted: Callable[[], Iterable[ProviderName]],
        discovery_seconds: float = DISCOVERY_SECONDS,
    ) -> None:
        self._settings = settings
        self._default = default
        self._namespace = namespace
        self._wanted = wanted
        self._discovery_seconds = discovery_seconds
        self._providers = providers(settings.scheduler_names)
        mine = {MANAGED_BY_LABEL: MANAGER}

        def store(resource: Resource) -> Store:
            if not resource.namespaced:
                # Somebody else's, and read by many.
                return Store(cluster, resource, on_change=lambda _: wake_all())
            return Store(cluster, resource, namespace=namespace, labels=mine, index=JOB_LABEL, on_change=wake)

        self._kinds: Mapping[ProviderName, OptionalKinds] = {
            name: OptionalKinds(one.api, store, on_change=wake_all) for name, one in self._providers.items()
        }

    @property
    def providers(self) -> dict[ProviderName, Provider]:
        """Each as the planner asks it."""
        return {name: _Asked(self, name) for name in self._providers}

    @property
    def stores(self) -> list[Store]:
        """Of what is served now."""
        return [store for kinds in self._kinds.values() for store in kinds.stores.values()]

    async def discover(self, discover: Discover) -> None:
        """See what the cluster serves, before the first pass."""
        for kinds in self._usable:
            await kinds.discover(discover)

    def of(self, provider: ProviderName) -> OptionalKinds:
        """Its kinds."""
        return self._kinds[provider]

    async def run(self, discover: Discover) -> None:
        """Follow what is served, until cancelled."""
        await keep_asking(
            self._usable,
            discover,
            interval=self._discovery_seconds,
            asked=lambda: any(map(self._lacks, self._wanted())),
        )

    @property
    def _usable(self) -> list[OptionalKinds]:
        return [kinds for kinds in self._kinds.values() if not self._beyond(kinds)]

    def left(self, namespace: str, name: str, job: Object | None, pods: Iterable[Object]) -> list[Patch]:
        """What lets objects go that are to, and whose owner is gone: a job, or (beside `job`) an earlier one of the name.

        Not while pods of their owner's are there.
        """
        found = [one for store in self.stores if store.resource.namespaced for one in store.labelled(namespace, name)]
        if not found:
            return []
        held = {owner["uid"] for one in (*pods, *([job] if job else [])) for owner in _owners(one)}
        return [patch for one in found if held.isdisjoint(o["uid"] for o in _owners(one)) for patch in let_go(one)]

    def answer(self, job: TrainingJob, provider: ProviderName) -> Admission:
        """What is to become of the job's gang, as its objects say."""
        kinds = self._kinds[provider]
        if self._beyond(kinds):
            read = " and ".join(one.kind for one in kinds.api.reads)
            reason = f"provider {provider} reads {read} of the whole cluster, and this operator looks after one namespace alone"
            return Admission(state=State.WAITING, reason=reason)
        if not kinds.known or not kinds.synced:
            if kinds.trouble:
                return Admission(state=State.WAITING, reason=bounded(f"{kinds.api} can't be read: {kinds.trouble}"))
            return UNDECIDED
        if kinds.version is None:
            there = [name for name, one in self._kinds.items() if one.version]
            return unserved(provider, kinds.api, there)
        return self._providers[provider].answer(self._gang(job, kinds, kinds.version))

    def with_upkeep(self, job: TrainingJob, observed: Observed, decided: Plan, now: float) -> Plan:
        """The plan with what is to be done with the job's objects, where its provider is told by such."""
        provider = self._default.of(job)
        kinds = self._kinds.get(provider)
        if kinds is None:
            return decided
        far = stage(job, observed, decided, now, self._settings)
        if far is None or kinds.version is None or not kinds.synced:
            return decided
        pods = Pods(like=worker_pod(job, 0, self._settings), there=observed.workers, at=now)
        upkeep = self._providers[provider].upkeep(self._gang(job, kinds, kinds.version), far, pods)
        return with_upkeep(job, decided, upkeep)

    def put(self, made: Object) -> None:
        """Take over an object as the API has it, if it is of a kind that is followed."""
        for store in self.stores:
            if (store.resource.api_version, store.resource.kind) == (made["apiVersion"], made["kind"]):
                store.put(made)

    def drop(self, gone: Object) -> None:
        """Forget an object that the API says is gone."""
        for store in self.stores:
            if (store.resource.api_version, store.resource.kind) == (gone["apiVersion"], gone["kind"]):
                store.drop(gone["metadata"]["namespace"], gone["metadata"]["name"])

    def _lacks(self, provider: ProviderName) -> bool:
        return provider in self._kinds and self._kinds[provider].version is None

    def _gang(self, job: TrainingJob, kinds: OptionalKinds, version: str) -> Gang:
        stores = kinds.stores.values()
        found = [one for store in stores if store.resource.namespaced for one in store.labelled(job.namespace, job.name)]
        read = [(store.resource.kind, one) for store in stores if not store.resource.namespaced for one in store.all()]
        return Gang(
            job=job,
            version=version,
            objects=tuple(one for one in found if owned(one, job.uid)),
            others={(kind, one["metadata"]["name"]): one for kind, one in read},
        )

    def _beyond(self, kinds: OptionalKinds) -> bool:
        """Whether it reads what an operator of one namespace may not."""
        return bool(kinds.api.reads) and self._namespace is not None


def _owners(obj: Object) -> list[Object]:
    """Whose an object is; a job is its own."""
    metadata = obj["metadata"]
    return [*metadata.get("ownerReferences", []), *([metadata] if obj["kind"] == TRAINING_JOBS.kind else [])]


class _Asked:
    """One provider of these, as the planner asks it."""

    def __init__(self, schedulers: Schedulers, name: ProviderName) -> None:
        self._schedulers = schedulers
        self._name = name

    def answer(self, job: TrainingJob) -> Admission:
        return self._schedulers.answer(job, self._name)

    def refused(self, job: TrainingJob, why: str) -> None:
        """Whoever has let the gang in stays with it; the pods are asked for again after a while."""

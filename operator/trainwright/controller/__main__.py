"""`trainwright-operator`: the operator as a process of its own, in a pod or on a laptop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator

import kopf
from prometheus_client import disable_created_metrics

from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import ClusterError
from trainwright.controller import logs
from trainwright.controller.handlers import registry_for
from trainwright.controller.leader import Leader
from trainwright.controller.metrics import Metrics
from trainwright.controller.operator import Operator
from trainwright.controller.options import arguments, settings_of
from trainwright.controller.server import serving
from trainwright.controller.targets import targets

log = logging.getLogger("trainwright")

# For each part, at most: a kubelet, or an impatient person, shall not have to reach for SIGKILL.
SHUTDOWN_SECONDS = 1.5


@contextlib.asynccontextmanager
async def closing(cluster: KubeCluster) -> AsyncIterator[None]:
    """Close the cluster's connections when the block ends."""
    try:
        yield
    finally:
        await cluster.close()


async def operate(options: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT."""
    # Series of when a counter was made: twice as many lines for what nobody asks.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics()
    cluster = await KubeCluster.connect(observer=metrics.request)
    operator = Operator(
        cluster,
        namespace=options.namespace,
        settings=settings_of(options),
        metrics=metrics,
        progress_interval=options.progress_interval,
    )
    stop = asyncio.Event()
    watching = asyncio.Event()
    # One leader for each scope: an operator of one namespace does not stand in the way of another's.
    leader = Leader(
        cluster,
        name=f"trainwright-operator-{options.namespace}" if options.namespace else "trainwright-operator",
        namespace=options.lease_namespace,
        identity=f"{socket.gethostname()}-{os.getpid()}",
    )

    def healthy() -> bool:
        return (operator.ready and watching.is_set()) or (options.leader_elect and not leader.leads)

    host, _, port = options.listen.rpartition(":")
    async with (
        closing(cluster),
        serving(
            host, int(port), metrics.registry, healthy, lambda: targets(operator.pods.all()) if operator.ready else None
        ) as bound,
    ):
        log.info("operator listens on %s:%d, watches %s", host, bound, options.namespace or "all namespaces")
        signals = asyncio.create_task(_stop_on_signals(stop, after=watching), name="signals")
        if options.leader_elect and not await _leads(leader, signals):
            return
        kopf_task = asyncio.create_task(
            kopf.operator(
                registry=registry_for(operator, cluster),
                namespaces=[options.namespace] if options.namespace else (),
                clusterwide=options.namespace is None,
                standalone=True,
                ready_flag=watching,
            ),
            name="kopf",
        )
        # Ours end before kopf does: kopf takes every task it finds in the loop for one of its own, and waits for it.
        tasks = [
            asyncio.create_task(operator.run(), name="operator"),
            *([asyncio.create_task(leader.hold(), name="leader")] if options.leader_elect else []),
            signals,
        ]
        await asyncio.wait([*tasks, kopf_task], return_when=asyncio.FIRST_COMPLETED)
        broken = next((task for task in (*tasks, kopf_task) if task.done() and task.exception() is not None), None)
        if broken is None:
            # What is cut short on the way out fails loudly, now and then, and means nothing.
            for name in ("kopf", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        for task in (*tasks, kopf_task):
            task.cancel()
            await asyncio.wait([task], timeout=SHUTDOWN_SECONDS)
        await leader.release()
    if broken is not None:
        # A restart is cheap and starts from a fresh list; limping on is neither.
        raise SystemExit(f"{broken.get_name()} ended unexpectedly: {broken.exception()!r}")


async def _leads(leader: Leader, stopped: asyncio.Task[None]) -> bool:
    """Wait until this replica leads; False when it is asked to stop before."""
    acquiring = asyncio.create_task(leader.acquire())
    await asyncio.wait([acquiring, stopped], return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        acquiring.cancel()
        return False
    await acquiring
    return True


async def _stop_on_signals(stop: asyncio.Event, *, after: asyncio.Event) -> None:
    """Return at SIGTERM or SIGINT. kopf takes the signals for itself as it starts, so ours are set once it has."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    taken = asyncio.create_task(after.wait())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([taken, stopped], return_when=asyncio.FIRST_COMPLETED)
    taken.cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stopped


def main() -> None:
    options = arguments()
    logs.configure(options.log_level, options.log_format)
    try:
        asyncio.run(operate(options))
    except (ClusterError, OSError) as error:
        raise SystemExit(f"trainwright-operator: {error}") from None


if __name__ == "__main__":
    main()

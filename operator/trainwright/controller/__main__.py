"""`python -m trainwright.controller`: the operator as a process of its own, in a pod or on a laptop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator

import kopf

from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import ClusterError
from trainwright.controller.handlers import registry_for
from trainwright.controller.metrics import Metrics
from trainwright.controller.operator import Operator
from trainwright.controller.server import serving
from trainwright.plan.types import Settings

log = logging.getLogger("trainwright")

# Everything must be down before a kubelet or an impatient person reaches for SIGKILL.
SHUTDOWN_SECONDS = 4.0


def arguments() -> argparse.Namespace:
    """The operator's options; each has an environment variable, for the chart."""
    parser = argparse.ArgumentParser(prog="trainwright-operator", description=__doc__)
    parser.add_argument(
        "--namespace", default=os.environ.get("TRAINWRIGHT_WATCH_NAMESPACE"), help="watch one namespace (default: all)"
    )
    parser.add_argument(
        "--listen",
        default=os.environ.get("TRAINWRIGHT_LISTEN", "0.0.0.0:8080"),
        metavar="HOST:PORT",
        help="where /healthz and /metrics are served",
    )
    parser.add_argument(
        "--progress-interval",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how often worker 0 of a job is asked for progress",
    )
    parser.add_argument("--registry", default=Settings.registry, help="where the trainer images are")
    parser.add_argument("--tag", default=Settings.tag, help="tag of the trainer images")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args()


@contextlib.asynccontextmanager
async def closing(cluster: KubeCluster) -> AsyncIterator[None]:
    """Close the cluster's connections when the block ends."""
    try:
        yield
    finally:
        await cluster.close()


async def operate(options: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT."""
    metrics = Metrics()
    cluster = await KubeCluster.connect(observer=metrics.request)
    operator = Operator(
        cluster,
        namespace=options.namespace,
        settings=Settings(registry=options.registry, tag=options.tag),
        metrics=metrics,
        progress_interval=options.progress_interval,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watching = asyncio.Event()
    host, _, port = options.listen.rpartition(":")
    async with (
        closing(cluster),
        serving(host, int(port), metrics.registry, lambda: operator.ready and watching.is_set()) as bound,
    ):
        log.info("operator listens on %s:%d, watches %s", host, bound, options.namespace or "all namespaces")
        tasks = [
            asyncio.create_task(operator.run(), name="operator"),
            asyncio.create_task(
                kopf.operator(
                    registry=registry_for(operator, cluster),
                    namespaces=[options.namespace] if options.namespace else (),
                    clusterwide=options.namespace is None,
                    standalone=True,
                    ready_flag=watching,
                    stop_flag=stop,
                ),
                name="kopf",
            ),
        ]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        # kopf listens for the same signals and may be first to end, without an exception: that is a stop like any other.
        broken = next((task for task in tasks if task.done() and task.exception() is not None), None)
        stop.set()
        tasks[0].cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await asyncio.gather(*tasks, return_exceptions=True)
        stopping.cancel()
    if broken is not None:
        # A restart is cheap and starts from a fresh list; limping on is neither.
        raise SystemExit(f"{broken.get_name()} ended unexpectedly: {broken.exception()!r}")


def main() -> None:
    options = arguments()
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        asyncio.run(operate(options))
    except (ClusterError, OSError) as error:
        raise SystemExit(f"trainwright-operator: {error}") from None


if __name__ == "__main__":
    main()

"""`python -m trainwright.local.agent`: one process node of a twin, as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.port import Object
from trainwright.local.addresses import free_port, subnet
from trainwright.local.cgroups import groups_if_any
from trainwright.local.gpus import Gpus, real_gpus
from trainwright.local.kubelet_api import serving
from trainwright.local.node import ProcessNode
from trainwright.local.podstatus import HOST
from trainwright.local.storage import Provisioner

log = logging.getLogger("trainwright.node")


def arguments() -> argparse.Namespace:
    """The agent's options; `trainwright up` gives them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="state folder of the twin")
    parser.add_argument("--name", required=True, help="name of the node")
    parser.add_argument("--number", type=int, default=0, help="number of the node; it chooses the subnet of its pods")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs to pretend, where there are none")
    parser.add_argument("--storage", action="store_true", help="make volumes for claims; one node of a twin does")
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    """Run the node until SIGTERM."""
    state: Path = options.state
    cluster = await KubeCluster.connect(kubeconfig=state / "kubeconfig")
    port = free_port(HOST)
    node = ProcessNode(
        cluster,
        name=options.name,
        state=state / "nodes" / options.name,
        prefix=subnet(str(state), options.number),
        # Real GPUs belong to the first node: two can't hand out the same one.
        groups=groups_if_any(),
        gpus=Gpus(real=real_gpus() if options.number == 0 else [], pretended=options.gpus),
        port=port,
        progress=log.info,
    )

    def directory(claim: Object) -> Path:
        metadata = claim["metadata"]
        return state / "volumes" / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid'][:8]}"

    tasks = [node.run()]
    if options.storage:
        tasks.append(Provisioner(cluster, directory).run())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(node, host=HOST, port=port, pki=state / "pki"):
        running = [asyncio.create_task(task) for task in tasks]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        stopping.cancel()
    with contextlib.suppress(Exception):
        await cluster.close()
    for result in ended:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr)
    asyncio.run(serve(arguments()))


if __name__ == "__main__":
    main()

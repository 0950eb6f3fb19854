"""What the launcher tells a rank of itself: the operator's variables are a pod's, and a pod may have several ranks."""

from __future__ import annotations

from collections.abc import Mapping

from trainwright_runtime.environment import RankEnvironment


def rank_variables(pod: RankEnvironment, shared: Mapping[str, str], *, local_rank: int, count: int) -> dict[str, str]:
    """The variables of one of the `count` ranks of this pod; `shared` is what all of them are given."""
    rank, size = pod.worker_index * count + local_rank, pod.workers * count
    own = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": pod.master_addr,
        "MASTER_PORT": str(pod.master_port),
    }
    if "HOROVOD_CONTROLLER" in shared:
        own |= {
            "HOROVOD_RANK": str(rank),
            "HOROVOD_SIZE": str(size),
            "HOROVOD_LOCAL_RANK": str(local_rank),
            "HOROVOD_LOCAL_SIZE": str(count),
            "HOROVOD_CROSS_RANK": str(pod.worker_index),
            "HOROVOD_CROSS_SIZE": str(pod.workers),
            "HOROVOD_HOSTNAME": f"worker-{pod.worker_index}",
        }
        if interface := shared.get("GLOO_SOCKET_IFNAME"):
            own["HOROVOD_GLOO_IFACE"] = interface
    return own

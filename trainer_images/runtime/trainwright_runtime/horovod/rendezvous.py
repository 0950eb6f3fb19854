"""`python -m trainwright_runtime.horovod.rendezvous`: Horovod's own rendezvous server, beside the ranks of worker 0.

`horovodrun` would start it, and then reach for SSH. All that the ranks need of it is this server, at a port that they know.
"""

from __future__ import annotations

import sys
import threading

from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

from trainwright_runtime.environment import RankEnvironment


def main() -> None:
    """Serve until standard input ends."""
    environment = RankEnvironment.read()
    hosts = [HostInfo(f"worker-{index}", environment.nproc) for index in range(environment.workers)]
    size = environment.workers * environment.nproc
    server = RendezvousHTTPServer((environment.pod_ip, environment.master_port), RendezvousHandler, False)
    server.init(get_host_assignments(hosts, size, size))
    threading.Thread(target=server.serve_forever, name="trainwright-rendezvous", daemon=True).start()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()

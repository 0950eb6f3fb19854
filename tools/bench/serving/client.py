"""`python -m bench.serving.client ADDRESS PATH CONNECTIONS SECONDS BODY`: clients that never pause, each with a connection.

Prints the latency of every request, how many weren't answered with 200, and how long it all took. Threads and plain sockets: the
least that a client can cost on the machine that the server is measured on.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time


def main() -> None:
    address, path, connections, seconds, body = sys.argv[1:]
    latencies: list[float] = []
    failures: list[str] = []
    began = time.perf_counter()
    end = began + float(seconds)

    def ask() -> None:
        connection = http.client.HTTPConnection(address, 8080, timeout=60)
        connection.connect()
        while (start := time.perf_counter()) < end:
            connection.request("POST", path, body.encode(), {"content-type": "application/json"})
            with connection.getresponse() as response:
                content = response.read()
                if response.status != http.HTTPStatus.OK:
                    failures.append(f"{response.status} {content[:200]!r}")
            latencies.append(time.perf_counter() - start)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(int(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump({"latencies": latencies, "seconds": time.perf_counter() - began, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main()

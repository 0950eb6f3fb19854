"""`trainwright-gateway`: all it needs to know is in the environment."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys

import uvloop
from aiohttp import web

from trainwright_gateway import settings
from trainwright_gateway.app import client_server, operations
from trainwright_gateway.gateway import Gateway
from trainwright_gateway.settings import DRAIN_SECONDS, MAX_BODY, SERVERS, Settings

CLIENTS, OPERATIONS = 8080, 9400
MORE = 10.0
"""Seconds beyond a request's own time that one in flight has to finish when the gateway ends."""
MAX_HEADER = 2**16
HELP = f"""environment:
  TRAINWRIGHT_DEPLOYMENT, TRAINWRIGHT_NAMESPACE  whose gateway it is
  TRAINWRIGHT_SERVER             {", ".join(SERVERS)}
  TRAINWRIGHT_MODELS             where published models lie; read only
  TRAINWRIGHT_POD_IP, TRAINWRIGHT_POD_NAME  what it listens on, and its name
  TRAINWRIGHT_ROUTES             a file with the last sync, read at the start
  TRAINWRIGHT_ADMIN_TOKEN_SHA256 sha256 of the token that /sync wants; unset: it is open
  TRAINWRIGHT_MAX_BODY_BYTES     of a request ({MAX_BODY})
  TRAINWRIGHT_DRAIN_SECONDS      how long it still takes requests after SIGTERM ({DRAIN_SECONDS:g})

clients ask on port {CLIENTS}; /metrics, /healthz, /readyz and PUT /sync are on port {OPERATIONS}
"""

log = logging.getLogger("trainwright_gateway")


def main() -> None:
    """Serve until SIGTERM. Ends with code 2 when the environment is wrong."""
    parser = argparse.ArgumentParser(
        prog="trainwright-gateway",
        description="Stands between clients and the servers of one model's versions.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    try:
        told = settings.read(os.environ)
    except settings.BadSettings as error:
        sys.stderr.write(f"trainwright-gateway: {error}\n")
        sys.exit(2)
    uvloop.run(serve(told))


async def serve(told: Settings) -> None:
    """Both ports, until the process is told to end; then nothing that is in flight is lost."""
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    gateway = Gateway(told)
    front = web.ServerRunner(client_server(gateway, access_log=None, max_field_size=MAX_HEADER, max_line_size=MAX_HEADER))
    back = web.AppRunner(operations(gateway), access_log=None)
    try:
        gateway.start()
        for runner, port in ((back, OPERATIONS), (front, CLIENTS)):
            await runner.setup()
            await web.TCPSite(runner, told.address, port, backlog=1024).start()
        log.info("%s/%s: a gateway to %s on %s", told.namespace, told.deployment, told.server, told.address)
        await stop.wait()
        gateway.stopping = True
        log.info("told to end: not ready any more, %s requests in flight", gateway.in_flight)
        # Who sends requests hears of it with some delay.
        await asyncio.sleep(told.drain)
        for site in list(front.sites):
            await site.stop()
        await gateway.drained((gateway.routes.sync.timeout_seconds if gateway.routes else 0) * 2 + MORE)
    finally:
        await front.cleanup()
        await back.cleanup()
        await gateway.close()
    log.info("ended")


if __name__ == "__main__":
    main()

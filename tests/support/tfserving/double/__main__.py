"""`tensorflow_model_server`: reads the flags of the real one, loads what its configuration says, then listens."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from double import rest, rpc
from double.models import Models, Settings
from double.service import Service
from double.status import Refused

DRAIN_SECONDS = 10.0


def flag(text: str) -> bool:
    """A boolean as the real one reads it: `--name`, `--name=true`, `--name=false`."""
    return text.lower() in ("", "true", "1")


def read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tensorflow_model_server", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--rest_api_port", type=int, default=0)
    parser.add_argument("--model_config_file", type=Path)
    parser.add_argument("--model_config_file_poll_wait_seconds", type=float, default=0)
    parser.add_argument("--model_name", default="default")
    parser.add_argument("--model_base_path", default="")
    parser.add_argument("--monitoring_config_file", type=Path)
    parser.add_argument("--file_system_poll_wait_seconds", type=float, default=1)
    parser.add_argument("--max_num_load_retries", type=int, default=5)
    parser.add_argument("--load_retry_interval_micros", type=int, default=60_000_000)
    parser.add_argument("--allow_version_labels_for_unavailable_models", type=flag, nargs="?", const=True, default=False)
    # Taken, and without effect on what is answered.
    parser.add_argument("--enable_batching", type=flag, nargs="?", const=True, default=False)
    parser.add_argument("--batching_parameters_file", type=Path)
    parser.add_argument("--rest_api_timeout_in_ms", type=int, default=30000)
    parser.add_argument("--rest_api_num_threads", type=int, default=4)
    parser.add_argument("--tensorflow_session_parallelism", type=int, default=0)
    parser.add_argument("--tensorflow_intra_op_parallelism", type=int, default=0)
    parser.add_argument("--tensorflow_inter_op_parallelism", type=int, default=0)
    parser.add_argument("--grpc_channel_arguments", default="")
    parser.add_argument("--enable_model_warmup", type=flag, nargs="?", const=True, default=True)
    flags = parser.parse_args()
    if flags.model_config_file is None and not flags.model_base_path:
        sys.stderr.write("Both server_options.model_base_path and server_options.model_config_file are empty!\n")
        raise SystemExit(255)
    for file in (flags.model_config_file, flags.monitoring_config_file, flags.batching_parameters_file):
        if file is not None and not file.is_file():
            sys.stderr.write(f"Failed to start server. Error: NOT_FOUND: {file}; No such file or directory\n")
            raise SystemExit(255)
    return flags


def config_of(flags: argparse.Namespace) -> Any:
    """The `ModelConfigList` that the flags name. Raises text_format.ParseError and OSError."""
    config = model_server_config_pb2.ModelServerConfig()
    if flags.model_config_file is not None:
        text_format.Parse(flags.model_config_file.read_text(), config)
    else:
        config.model_config_list.config.add(name=flags.model_name, base_path=flags.model_base_path, model_platform="tensorflow")
    return config.model_config_list


async def main() -> int:
    flags = read_flags()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    models = Models(
        Settings(
            poll=flags.file_system_poll_wait_seconds,
            retries=flags.max_num_load_retries,
            retry_wait=flags.load_retry_interval_micros / 1e6,
            labels_of_unavailable=flags.allow_version_labels_for_unavailable_models,
        )
    )
    tasks = [asyncio.create_task(models.watch())]
    starting = asyncio.create_task(models.reload(config_of(flags)))
    tasks.append(starting)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        return 0
    try:
        starting.result()
    except Refused as refused:
        sys.stderr.write(f"Failed to start server. Error: {refused.code.name}: {refused}\n")
        return 255
    if flags.model_config_file_poll_wait_seconds > 0:
        tasks.append(asyncio.create_task(poll_config(flags, models)))
    service, address = Service(models), os.environ.get("TRAINWRIGHT_POD_IP") or "0.0.0.0"
    server = await rpc.serve(service, f"{address}:{flags.port}")
    runner = web.AppRunner(rest.app_of(service, monitoring_path(flags)), access_log=None, shutdown_timeout=DRAIN_SECONDS)
    if flags.rest_api_port:
        await runner.setup()
        await web.TCPSite(runner, address, flags.rest_api_port).start()
        sys.stderr.write(f"Exporting HTTP/REST API at:{address}:{flags.rest_api_port} ...\n")
    await stopping
    await server.stop(DRAIN_SECONDS)
    await runner.cleanup()
    for task in tasks:
        task.cancel()
    return 0


def monitoring_path(flags: argparse.Namespace) -> str | None:
    """Where the metrics are, if they are to be. The message for this file isn't among the published ones."""
    if flags.monitoring_config_file is None:
        return None
    text = flags.monitoring_config_file.read_text()
    if re.search(r"prometheus_config\s*:?\s*\{[^}]*\benable\s*:\s*true", text) is None:
        return None
    path = re.search(r"""\bpath\s*:\s*["']([^"']+)["']""", text)
    return path[1] if path else "/monitoring/prometheus/metrics"


async def poll_config(flags: argparse.Namespace, models: Models) -> None:
    """Take the file's configuration whenever it was written anew."""
    while True:
        await asyncio.sleep(flags.model_config_file_poll_wait_seconds)
        try:
            await models.reload(config_of(flags))
        except (Refused, OSError, text_format.ParseError) as error:
            sys.stderr.write(f"Model config file could not be reloaded: {error}\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main()))

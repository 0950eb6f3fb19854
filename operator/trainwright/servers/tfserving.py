"""TensorFlow Serving, as its own image brings it: one Deployment for all versions. Which of them are loaded, and which carry the
labels `stable` and `canary`, the gateway says by ReloadConfig; a server that starts anew begins with the newest.
"""

from __future__ import annotations

from trainwright.api.deployment_spec import ServerName
from trainwright.api.names import TFSERVING_GRPC_PORT, TFSERVING_REST_PORT
from trainwright.servers.base import CONFIG_DIR, Launch

MONITORING_FILE = "monitoring.config"
BATCHING_FILE = "batching.config"
METRICS_PATH = "/monitoring/prometheus/metrics"


class TensorFlowServing:
    name = ServerName.TFSERVING
    image = "tensorflow/serving:2.19.1"
    a_version_each = False
    port = TFSERVING_REST_PORT
    metrics_port = TFSERVING_REST_PORT
    metrics_path = METRICS_PATH

    def command(self, launch: Launch) -> list[str]:
        batching = launch.batching.max_size > 1
        return [
            "tensorflow_model_server",
            f"--port={TFSERVING_GRPC_PORT}",
            f"--rest_api_port={TFSERVING_REST_PORT}",
            f"--model_name={launch.model}",
            f"--model_base_path={launch.models}/versions",
            f"--monitoring_config_file={CONFIG_DIR}/{MONITORING_FILE}",
            *(["--enable_batching=true", f"--batching_parameters_file={CONFIG_DIR}/{BATCHING_FILE}"] if batching else []),
        ]

    def environment(self, launch: Launch) -> dict[str, str]:  # noqa: ARG002 - it is told by flags
        return {}

    def ready_path(self, model: str) -> str:
        return f"/v1/models/{model}"

    def files(self, launch: Launch) -> dict[str, str]:
        files = {MONITORING_FILE: f'prometheus_config {{ enable: true, path: "{METRICS_PATH}" }}\n'}
        if launch.batching.max_size > 1:
            files[BATCHING_FILE] = (
                f"max_batch_size {{ value: {launch.batching.max_size} }}\n"
                f"batch_timeout_micros {{ value: {launch.batching.max_delay_milliseconds * 1000} }}\n"
            )
        return files

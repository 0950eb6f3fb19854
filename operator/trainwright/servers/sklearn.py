"""Our scikit-learn server, which speaks the Open Inference Protocol: one version a Deployment."""

from __future__ import annotations

from trainwright.api.deployment_spec import ServerName
from trainwright.api.names import CLIENT_PORT, SERVER_METRICS_PORT
from trainwright.servers.base import Launch


class SklearnServer:
    name = ServerName.SKLEARN
    image = "sklearn-server"
    a_version_each = True
    port = CLIENT_PORT
    metrics_port = SERVER_METRICS_PORT
    metrics_path = "/metrics"

    def command(self, launch: Launch) -> list[str]:  # noqa: ARG002 - the same for all
        return ["trainwright-sklearn-server"]

    def environment(self, launch: Launch) -> dict[str, str]:
        return {
            "TRAINWRIGHT_BATCH_SIZE": str(launch.batching.max_size),
            "TRAINWRIGHT_BATCH_DELAY_MS": str(launch.batching.max_delay_milliseconds),
        }

    def ready_path(self, model: str) -> str:
        return f"/v2/models/{model}/ready"

    def files(self, launch: Launch) -> dict[str, str]:  # noqa: ARG002 - it needs none
        return {}

"""`python -m trainwright.local.prepare`: make what a twin and its jobs need, with progress, so that later nothing has to wait."""

from __future__ import annotations

import asyncio
import sys

from trainwright.local import binaries, environments, prometheus


def say(text: str) -> None:
    sys.stderr.write(f"prepare: {text}\n")


def main() -> None:
    """The control plane's programs, Prometheus, and the environment of every image."""
    try:
        binaries.ensure(say)
        prometheus.ensure(say)
        for folder in environments.image_folders():
            asyncio.run(environments.ensure(folder, say))
    except (binaries.ControlPlaneUnavailable, environments.EnvironmentFailed) as error:
        raise SystemExit(f"prepare: {error}") from None


if __name__ == "__main__":
    main()

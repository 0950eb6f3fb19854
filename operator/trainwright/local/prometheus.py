"""A real Prometheus beside a twin's control plane: found, unpacked or built, and already scraping.

Order: PATH, the cache, Debian's package (fetched by apt-get and unpacked, which takes no root), the Go module under `tools/`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from trainwright.local import binaries
from trainwright.local.binaries import Progress, Tool
from trainwright.local.locks import locked
from trainwright.local.paths import cache, checkout

VERSION = "v0.305.0"
"""Of the Go module: v0.305.0 is Prometheus 3.5."""
TOOLS = {
    name: Tool(name, "prometheus", f"github.com/prometheus/prometheus/cmd/{name}", VERSION) for name in ("prometheus", "promtool")
}
RULES = Path("manifests") / "monitoring" / "rules.yaml"
SCRAPE_SECONDS = 2
PACKAGE = "prometheus"


def ensure(progress: Progress = lambda _: None) -> dict[str, Path]:
    """Paths of `prometheus` and `promtool`; gets what is missing. Raises ControlPlaneUnavailable."""
    if found := _there():
        return found
    with locked(cache() / "prometheus.lock", lambda: progress("another process is getting Prometheus; waiting for it")):
        return _there() or _unpacked(progress) or binaries.ensure(progress, tuple(TOOLS.values()))


def _there() -> dict[str, Path]:
    """Both programs from one place that has them; nothing when none has."""
    for place in (shutil.which, lambda name: _folder() / "usr" / "bin" / name, lambda name: binaries.cached(TOOLS[name])):
        found = {name: Path(path) for name in TOOLS if (path := place(name)) is not None and Path(path).exists()}
        if len(found) == len(TOOLS):
            return found
    return {}


def _folder() -> Path:
    return cache() / "bin" / "prometheus-debian"


def _unpacked(progress: Progress) -> dict[str, Path]:
    """Debian's package, where there is one; nothing otherwise."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return {}
    progress("fetching Debian's package of Prometheus")
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as directory:
        aside = Path(directory)
        package = _downloaded(aside)
        content = aside / "content"
        if package is None or not _works("dpkg-deb", "--extract", str(package), str(content)):
            return {}
        _folder().parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(_folder(), ignore_errors=True)
        content.rename(_folder())
    return _there()


def _downloaded(aside: Path) -> Path | None:
    """The package's file; by lists of packages of our own where the machine's are missing or old."""
    lists = [f"-oDir::State::lists={aside / 'lists'}", f"-oDir::Cache={aside / 'cache'}"]
    (aside / "lists" / "partial").mkdir(parents=True)
    if not _works("apt-get", "download", PACKAGE, cwd=aside) and _works("apt-get", *lists, "update"):
        _works("apt-get", *lists, "download", PACKAGE, cwd=aside)
    return next(iter(aside.glob(f"{PACKAGE}_*.deb")), None)


def _works(*command: str, cwd: Path | None = None) -> bool:
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False).returncode == 0


def command(program: Path, state: Path, *, address: str, operator: str) -> list[str]:
    """How Prometheus is started for a twin. `address`: where it is to listen; `operator`: where that does."""
    config = configure(state, operator=operator)
    return [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={state / 'data'}",
        f"--web.listen-address={address}",
        "--web.enable-lifecycle",
    ]


def configure(state: Path, *, operator: str) -> Path:
    """Write what is to be scraped: the operator at this address, and the pods that it tells of."""
    often = f"{SCRAPE_SECONDS}s"
    found = {"http_sd_configs": [{"url": f"http://{operator}/targets", "refresh_interval": often}]}
    jobs: list[dict[str, Any]] = [
        # The operator says of which job, in which namespace, a series is.
        {"job_name": "trainwright-operator", "honor_labels": True, "static_configs": [{"targets": [operator]}]},
        {"job_name": "trainwright-workers", **found, "relabel_configs": [_of_role("")]},
        {"job_name": "trainwright-servers", **found, "relabel_configs": [_of_role("server")]},
        # A gateway says whose it is, too; its `role` is that of a version.
        {
            "job_name": "trainwright-gateways",
            "honor_labels": True,
            **found,
            "relabel_configs": [_of_role("gateway"), {"regex": "role", "action": "labeldrop"}],
        },
    ]
    config = {
        "global": {"scrape_interval": often, "evaluation_interval": often},
        "rule_files": [str(checkout() / RULES)],
        "scrape_configs": jobs,
    }
    state.mkdir(parents=True, exist_ok=True)
    path = state / "prometheus.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def _of_role(role: str) -> dict[str, Any]:
    return {"source_labels": ["role"], "regex": role, "action": "keep"}

"""A real Prometheus beside a twin's control plane: found, unpacked or built, and already scraping.

Order: PATH, the cache, Debian's package (fetched by apt-get and unpacked, which takes no root), the Go module under `tools/`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from trainwright.api.names import ATTEMPT_LABEL, INDEX_LABEL, JOB_LABEL
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
    with tempfile.TemporaryDirectory(dir=cache()) as aside:
        fetched = subprocess.run(["apt-get", "download", PACKAGE], cwd=aside, capture_output=True, check=False)
        packages = list(Path(aside).glob("*.deb"))
        if fetched.returncode != 0 or not packages:
            return {}
        content = Path(aside) / "content"
        if subprocess.run(["dpkg-deb", "--extract", packages[0], content], capture_output=True, check=False).returncode != 0:
            return {}
        _folder().parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(_folder(), ignore_errors=True)
        content.rename(_folder())
    return _there()


def command(program: Path, state: Path, *, kubeconfig: Path, address: str) -> list[str]:
    """How Prometheus is started for a twin; writes its configuration. `address`: where it is to listen."""
    state.mkdir(parents=True, exist_ok=True)
    config = state / "prometheus.yml"
    config.write_text(yaml.safe_dump(configuration(state, kubeconfig), sort_keys=False))
    return [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={state / 'data'}",
        f"--web.listen-address={address}",
        "--web.enable-lifecycle",
    ]


def tell_operator(state: Path, address: str) -> None:
    """Where the operator answers from now on: Prometheus looks into the file by itself."""
    state.mkdir(parents=True, exist_ok=True)
    aside = state / ".operator.json.part"
    aside.write_text(json.dumps([{"targets": [address]}]))
    aside.rename(state / "operator.json")


def configuration(state: Path, kubeconfig: Path) -> dict[str, Any]:
    """What a twin's Prometheus scrapes: the operator, and every pod that asks for it by the usual annotations."""
    return {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(checkout() / RULES)],
        "scrape_configs": [
            {
                "job_name": "trainwright-operator",
                # The operator says of which job, in which namespace, a series is.
                "honor_labels": True,
                "file_sd_configs": [{"files": [str(state / "operator.json")], "refresh_interval": "1s"}],
            },
            {
                "job_name": "trainwright-workers",
                "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
                "relabel_configs": worker_relabeling(),
            },
        ],
    }


def worker_relabeling() -> list[dict[str, Any]]:
    """How a pod's annotations say where to scrape it, and its labels what its series are of."""

    def meta(name: str) -> str:
        return "__meta_kubernetes_pod_" + "".join(one if one.isalnum() else "_" for one in name)

    return [
        {"source_labels": [meta("label_" + JOB_LABEL)], "action": "keep", "regex": ".+"},
        {"source_labels": [meta("annotation_prometheus.io/scrape")], "action": "keep", "regex": "true"},
        {"source_labels": [meta("phase")], "action": "keep", "regex": "Running"},
        {
            "source_labels": [meta("ip"), meta("annotation_prometheus.io/port")],
            "separator": ":",
            "target_label": "__address__",
        },
        {"source_labels": [meta("annotation_prometheus.io/path")], "target_label": "__metrics_path__", "regex": "(.+)"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": [meta("name")], "target_label": "pod"},
        {"source_labels": [meta("label_" + JOB_LABEL)], "target_label": "job"},
        {"source_labels": [meta("label_" + INDEX_LABEL)], "target_label": "worker"},
        {"source_labels": [meta("label_" + ATTEMPT_LABEL)], "target_label": "attempt"},
    ]

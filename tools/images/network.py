"""How the building machine reaches the package indexes, handed to builds as secrets: no layer keeps any of it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
# What may be said of indexes; paths of this machine mean nothing in a build.
_NAMES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT",
)
_OF_PIP = {"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL", "trusted-host": "PIP_TRUSTED_HOST"}
# uv does not read what pip is told.
_SAME = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_TRUSTED_HOST": "UV_INSECURE_HOST"}


def secrets(folder: Path, environ: Mapping[str, str] = os.environ, configured: str | None = None) -> dict[str, Path]:
    """Secrets by id: `ca`, `index`, `netrc`, those that there are. What must be written lies in `folder`, readable by its owner.
    `configured`: what `pip config list` says (asked if None).
    """
    found: dict[str, Path] = {}
    for name in _BUNDLES:
        if (path := Path(environ.get(name) or "/nonexistent")).is_file():
            found["ca"] = path
            break
    settings = _settings(environ, _pip() if configured is None else configured)
    if settings:
        file = folder / "index"
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(settings.items())))
        found["index"] = file
    netrc = Path(environ.get("NETRC") or Path.home() / ".netrc")
    if netrc.is_file():
        found["netrc"] = netrc
    return found


def _settings(environ: Mapping[str, str], configured: str) -> dict[str, str]:
    settings = {}
    for line in configured.splitlines():
        name, _, value = line.partition("=")
        if (variable := _OF_PIP.get(name.rpartition(".")[2])) is not None:
            settings[variable] = value.strip().strip("'")
    settings |= {name: environ[name] for name in _NAMES if environ.get(name)}
    for ours, theirs in _SAME.items():
        if ours in settings:
            settings.setdefault(theirs, settings[ours])
    return settings


def _pip() -> str:
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""

"""Help and completion answer at once: what takes long to import is left to the commands that need it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# pydantic itself is not among them: typer makes its parameters of it.
HEAVY = {
    "aiohttp",
    "asyncio",
    "cryptography",
    "jinja2",
    "jsonschema",
    "kopf",
    "kubernetes",
    "prometheus_client",
    "psutil",
    "pynvml",
    "yaml",
    "trainwright.api.spec",
    "trainwright.cluster.kube",
    "trainwright.controller",
    "trainwright.local.twin",
}

# All that the command line prints goes before the list of what it has imported by then.
PROGRAM = """
import atexit, json, sys
atexit.register(lambda: print("\\0" + json.dumps(sorted(sys.modules))))
from trainwright.cli import main
sys.argv[0] = "trainwright"
sys.exit(main())
"""


def modules_of(*words: str, completing: str = "") -> tuple[str, set[str]]:
    """What a command line prints, and what it has imported at its end. `completing`: a line as the shell asks about it."""
    shell = {
        "_TRAINWRIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": completing,
        "COMP_CWORD": str(len(completing.split(" ")) - 1),
    }
    environment = {**os.environ, "COLUMNS": "200", **(shell if completing else {})}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], env=environment, capture_output=True, check=True, text=True, timeout=60
    )
    printed, _, modules = result.stdout.partition("\0")
    return printed, set(json.loads(modules))


@pytest.mark.parametrize(
    ("words", "line", "said"),
    [
        (["--help"], "", "Start a real control plane"),
        (["status", "--help"], "", "--all-namespaces"),
        (["chaos", "--help"], "", "slow-disk"),
        (["report", "--help"], "", "--prometheus"),
        ([], "trainwright st", "status"),
        ([], "trainwright submit --fol", "--follow"),
        ([], "trainwright chaos slow", "slow-disk"),
    ],
    ids=[
        "help",
        "help of a command",
        "help of a group",
        "help of the report",
        "a command's name",
        "an option's name",
        "a name in a group",
    ],
)
def test_help_and_completion_import_nothing_heavy(words: list[str], line: str, said: str) -> None:
    printed, modules = modules_of(*words, completing=line)
    assert said in printed
    assert not HEAVY & modules


def test_a_command_that_works_is_seen_to_import_what_it_needs() -> None:
    printed, modules = modules_of("explain", "backoffLimit")
    assert "spec.runPolicy.backoffLimit" in printed
    assert "trainwright.api.spec" in modules

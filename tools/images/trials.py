"""What can be tried of an image without a cluster: it starts as its user, with nothing to write to but where it may."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from images.catalogue import Image, Trial
from images.engines import Engine

_WHO = "import os; print(os.getuid(), os.getgid(), os.environ['HOME'])"
_WRITES = """
import os, pathlib
pathlib.Path('/tmp/x').write_text('x')
for folder in ('/', '/opt/venv', '/usr', '/etc', '/usr/lib/python3', '/usr/local'):
    if os.path.isdir(folder) and os.access(folder, os.W_OK):
        raise SystemExit(f'{folder} can be written')
"""
COMMON = (
    Trial(command=("python3", "-c", _WHO), says="65532 65532 /tmp"),
    Trial(command=("python3", "-c", _WRITES)),
)


def faults(engine: Engine, reference: str, image: Image, say: Callable[[str], None]) -> Iterator[str]:
    """A sentence for each trial that does not end as it must."""
    for trial in (*COMMON, *image.trials):
        done = engine.run(reference, trial.command)
        said = done.stdout + done.stderr
        shown = " ".join(trial.command[:2])
        if done.returncode != trial.code or trial.says not in said:
            tail = " | ".join(said.strip().splitlines()[-3:])
            yield f"{image.name}: {shown} ended with {done.returncode} instead of {trial.code}, or without '{trial.says}': {tail}"
        else:
            say(f"{image.name}: {shown.splitlines()[0]}: as it must")

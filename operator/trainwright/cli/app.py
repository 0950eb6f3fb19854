"""`trainwright`: what all commands share. Exit codes: 0 done, 1 the thing asked for failed, 2 asked wrongly, 130 Ctrl-C."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from trainwright import __version__

app = typer.Typer(
    name="trainwright",
    help="Distributed training on Kubernetes, and on a laptop without one.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In a pipe there is no width to keep to: a line that is a line can be searched and cut.
PIPE_WIDTH = 1000
out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH)
err = Console(stderr=True, highlight=False)

OPERATE, WATCH, SERVE, LEARN, LAPTOP = "Jobs", "Watching", "Served models", "Finding out", "This machine"


class UserError(Exception):
    """Something the user can mend; the message says what and how."""


class Output(StrEnum):
    """How to print: for people, or whole and stable for programs."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def emit(value: Any, output: Output) -> None:
    """Write a value made of plain JSON to stdout, as JSON or YAML."""
    if output is Output.JSON:
        text = json.dumps(value, indent=2) + "\n"
    else:
        import yaml  # noqa: PLC0415 - --help and completion do without

        text = yaml.safe_dump(value, sort_keys=False, width=10_000)
    sys.stdout.write(text)
    sys.stdout.flush()


def show(view: RenderableType, *, width: int | None = None) -> None:
    """Print something to stdout, at most `width` columns wide; in a pipe without the blanks that fill lines up."""
    width = min(width, out.width) if width else None
    if out.is_terminal:
        out.print(view, width=width)
        return
    with out.capture() as captured:
        out.print(view, width=width)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def whole(obj: dict[str, Any]) -> dict[str, Any]:
    """An object of the API without the book-keeping of who wrote which field, as kubectl shows it."""
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "managedFields"}}


def note(text: str) -> None:
    """A remark for people, on stderr, where it is in no program's way."""
    err.print(f"[dim]{text}[/]", soft_wrap=True)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"trainwright {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Distributed training on Kubernetes, and on a laptop without one."""

"""`trainwright`: the commands and what they share. Exit codes: 0 done, 1 the thing asked for failed, 2 asked wrongly."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from trainwright import __version__

app = typer.Typer(
    name="trainwright",
    help="Distributed training on Kubernetes, and on a laptop without one.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class UserError(Exception):
    """Something the user can mend; the message says what and how."""


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

"""The entry point: all commands, and what a user sees of their errors."""

from __future__ import annotations

import sys

from rich.markup import escape

from trainwright.api.job import InvalidJob
from trainwright.cli import chaos, jobs, run, twin
from trainwright.cli.app import UserError, app, err
from trainwright.cluster.port import ClusterError

# Importing them is what adds their commands.
COMMANDS = (chaos, jobs, run, twin)


def main() -> None:
    """Run a command; what goes wrong is one line on stderr, never a traceback."""
    try:
        app()
    except InvalidJob as error:
        for one in error.errors:
            _say(str(one))
        sys.exit(2)
    except UserError as error:
        _say(str(error))
        sys.exit(2)
    except ClusterError as error:
        _say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(message: str) -> None:
    err.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)

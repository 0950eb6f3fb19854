"""The entry point: all commands, and what a user sees of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.markup import escape

from trainwright.api.errors import InvalidSpec
from trainwright.cli import chaos, commands, serving_commands
from trainwright.cli.app import UserError, app, err
from trainwright.cli.errors import advice
from trainwright.cluster.port import ClusterError

# Importing them is what adds their commands.
COMMANDS = (commands, chaos, serving_commands)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code; what goes wrong is a line or two on stderr, never a traceback."""
    try:
        app(args=arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except InvalidSpec as error:
        for one in error.errors:
            _say(str(one))
        return 2
    except UserError as error:
        _say(str(error))
        return 2
    except ClusterError as error:
        _say(str(error))
        if hint := advice(error):
            err.print(f"[dim]{escape(hint)}[/]", soft_wrap=True)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in `trainwright logs digits | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return 0


def _say(message: str) -> None:
    err.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)

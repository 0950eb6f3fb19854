"""The command line of the launcher, and the one place that ends it."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
from collections.abc import Sequence

from trainwright_runtime.environment import InvalidEnvironment, RankEnvironment
from trainwright_runtime.exits import CAUSE_OF_EXIT, Exit, say
from trainwright_runtime.launch import program
from trainwright_runtime.launch.preflight import PreflightFailed, check_pod
from trainwright_runtime.launch.supervisor import Supervisor
from trainwright_runtime.launch.verdict import Verdict, write_termination_message


class _StopAsked(Exception):
    """SIGTERM has come before there were ranks to forward it to."""


def main() -> None:
    """Entry point of `trainwright-launch`."""
    arguments = parse(sys.argv[1:])
    # The first process of a container ignores what it has no handler for.
    signal.signal(signal.SIGTERM, _raise_stop_asked)
    verdict = _launch(arguments)
    # Not from RankEnvironment: what is to be told may be that it could not be read.
    write_termination_message(verdict, os.environ.get("TRAINWRIGHT_TERMINATION_LOG"))
    sys.exit(verdict.exit_code)


def _raise_stop_asked(_signal: int, _frame: object) -> None:
    raise _StopAsked


def _launch(arguments: argparse.Namespace) -> Verdict:
    rank = 0
    try:
        environment = RankEnvironment.read()
        rank = environment.worker_index * environment.nproc
        to_start = arguments.plan(arguments)
        program.check(to_start, workers=environment.workers, environ=os.environ)
        if environment.worker_index == 0 and (warning := program.warning(to_start)) is not None:
            say(warning)
        check_pod(environment, deadline_seconds=arguments.peer_timeout)
        return Supervisor(to_start, environment, peer_timeout=arguments.peer_timeout, beside=arguments.beside).run()
    except (InvalidEnvironment, program.InvalidProgram) as error:
        return _refusal(rank, Exit.INVALID_CONFIG, str(error))
    except PreflightFailed as error:
        return _refusal(rank, Exit.PREFLIGHT, f"pre-flight failed: {error}")
    except _StopAsked:
        return _refusal(rank, Exit.TERMINATED, "asked to stop before the ranks were started")


def _refusal(rank: int, code: Exit, message: str) -> Verdict:
    say(message)
    return Verdict(rank=rank, exit_code=code, cause=CAUSE_OF_EXIT[code], message=message)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line as a plan; what follows the first `--` belongs to the program, and is not looked at."""
    own = list(itertools.takewhile(lambda word: word != "--", words))
    arguments = _parser().parse_args(own)
    arguments.rest = list(words[len(own) + 1 :])
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trainwright-launch", description="Start and watch the ranks of one worker.")
    parser.add_argument(
        "--peer-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long worker 0 may take to be found and to answer",
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="MODULE",
        help="run this module beside the ranks of worker 0, until they have ended",
    )
    verbs = parser.add_subparsers(required=True, metavar="recipe | module | command")

    recipe = verbs.add_parser("recipe", help="run a recipe of this image")
    recipe.add_argument("name")
    recipe.set_defaults(plan=lambda given: program.recipe(given.name, given.rest))

    usage = "%(prog)s MODULE [--function FUNCTION] [-- ARG…]"
    module = verbs.add_parser("module", help="run a module of the user's, or a function in it", usage=usage)
    module.add_argument("module")
    module.add_argument("--function", help="called without arguments, as a console script is; its arguments are in sys.argv")
    module.set_defaults(plan=lambda given: program.module(given.module, given.function, given.rest))

    usage = "%(prog)s [--each-rank] -- PROGRAM [ARG…]"
    command = verbs.add_parser("command", help="run a program in this pod", usage=usage)
    command.add_argument("--each-rank", action="store_true", help="run it for each rank of the pod, and not once")
    command.set_defaults(plan=lambda given: program.command(given.rest, each_rank=given.each_rank))
    return parser

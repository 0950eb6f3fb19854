"""The command line of the launcher, and the one place that ends it."""

from __future__ import annotations

import argparse
import sys

from trainwright_runtime.environment import InvalidEnvironment, RankEnvironment
from trainwright_runtime.exits import CAUSE_OF_EXIT, Exit, say
from trainwright_runtime.launch import program
from trainwright_runtime.launch.preflight import PreflightFailed, check_pod
from trainwright_runtime.launch.supervisor import Supervisor
from trainwright_runtime.launch.verdict import Verdict, write_termination_message


def main() -> None:
    """Entry point of `trainwright-launch`."""
    arguments = _parser().parse_args()
    try:
        environment = RankEnvironment.read()
    except InvalidEnvironment as error:
        say(str(error))
        sys.exit(Exit.INVALID_CONFIG)
    verdict = _launch(arguments, environment)
    if verdict.exit_code != Exit.DONE:
        write_termination_message(verdict, environment.termination_log)
    # Nothing of the launcher needs an orderly end by now, and threads that still serve a request mustn't delay it.
    sys.stdout.flush()
    sys.exit(verdict.exit_code)


def _launch(arguments: argparse.Namespace, environment: RankEnvironment) -> Verdict:
    lowest_rank = environment.worker_index * environment.nproc
    try:
        to_start = arguments.plan(arguments)
        check_pod(environment, deadline_seconds=arguments.peer_timeout)
    except program.InvalidProgram as error:
        return _refusal(lowest_rank, Exit.INVALID_CONFIG, str(error))
    except PreflightFailed as error:
        return _refusal(lowest_rank, Exit.PREFLIGHT, f"pre-flight failed: {error}")
    return Supervisor(to_start, environment, peer_timeout=arguments.peer_timeout).run()


def _refusal(rank: int, code: Exit, message: str) -> Verdict:
    say(message)
    return Verdict(rank=rank, exit_code=code, cause=CAUSE_OF_EXIT[code], message=message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trainwright-launch", description="Start and watch the ranks of one worker.")
    parser.add_argument(
        "--peer-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long worker 0 may take to be found and to answer",
    )
    verbs = parser.add_subparsers(required=True, metavar="recipe | module | command")

    recipe = verbs.add_parser("recipe", help="run a recipe of this image")
    recipe.add_argument("name")
    recipe.set_defaults(plan=lambda given: program.recipe(given.name))

    module = verbs.add_parser("module", help="run a module of the user's, or a function in it")
    module.add_argument("module")
    module.add_argument("--function", help="called without arguments, as a console script is; its arguments are in sys.argv")
    module.add_argument("args", nargs="*", metavar="-- ARG")
    module.set_defaults(plan=lambda given: program.module(given.module, given.function, given.args))

    command = verbs.add_parser("command", help="run a program once in this pod")
    command.add_argument("argv", nargs="+", metavar="-- PROGRAM")
    command.set_defaults(plan=lambda given: program.command(given.argv))
    return parser

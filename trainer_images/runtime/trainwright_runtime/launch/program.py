"""What the launcher is to start: the same three verbs for every framework."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainwright_runtime.launch import mistakes, scripts

RECIPES = "trainwright.recipes"
"""Entry-point group in which an image's package declares its recipes: name = module to run."""


_CALL = (sys.executable, "-m", "trainwright_runtime.launch.call")


class InvalidProgram(ValueError):
    """There is no such thing to start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """One program of this pod. `meets_at_once`: its ranks are sure to look for worker 0 as soon as they run. `script`: the file
    of the user's that it runs, where that is known.
    """

    argv: tuple[str, ...]
    once_a_rank: bool
    meets_at_once: bool = False
    script: Path | None = None


def recipe(name: str, args: Sequence[str]) -> Program:
    """A recipe by its name. It takes no arguments: its configuration is a file."""
    if args:
        raise InvalidProgram(
            f"a recipe takes no arguments, but there are {' '.join(args)!r}; its settings go into spec.recipe.config"
        )
    recipes = {found.name: found.value for found in importlib.metadata.entry_points(group=RECIPES)}
    if name not in recipes:
        raise InvalidProgram(f"unknown recipe {name!r}; this image has: {', '.join(sorted(recipes)) or 'none'}")
    return Program(argv=(*_CALL, recipes[name]), once_a_rank=True, meets_at_once=True)


def module(name: str, function: str | None, args: Sequence[str]) -> Program:
    """A user's module, run as `python -m` does, or one function of it."""
    target = name if function is None else f"{name}:{function}"
    return Program(argv=(*_CALL, target, *args), once_a_rank=True, script=scripts.of_module(name))


def command(argv: Sequence[str], *, each_rank: bool = False) -> Program:
    """A program that knows for itself how to use the pod; or, with `each_rank`, is one of the ranks."""
    if not argv:
        raise InvalidProgram("there is no program to run: it goes after `--`")
    if shutil.which(argv[0]) is None:
        raise InvalidProgram(f"there is no program {argv[0]!r} in this image")
    return Program(argv=tuple(argv), once_a_rank=each_rank, script=scripts.of_command(argv))


def check(program: Program, *, workers: int, environ: Mapping[str, str]) -> None:
    """Raise InvalidProgram for a script that is known not to train this way."""
    if program.script is not None and (fault := scripts.fault_of(program.script, workers=workers, environ=environ)):
        raise InvalidProgram(fault)


def warning(program: Program) -> str | None:
    """What is worth saying of a script that is started all the same."""
    return mistakes.warning_on(program.script) if program.script is not None else None

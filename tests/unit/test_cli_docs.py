"""docs/cli.md is about the commands that there are."""

from __future__ import annotations

import re

import typer.main

import trainwright.cli.main  # noqa: F401 - makes the commands
from support.twin import ROOT
from trainwright.cli.app import app

PAGE = (ROOT / "docs" / "cli.md").read_text()


def test_every_command_is_in_the_table_and_none_that_is_not_there() -> None:
    table = PAGE.split("## What all of them share", maxsplit=1)[0]
    named = set(
        re.findall(
            r"[`\[, ]`?([a-z]+)(?:`|`\]|, )", " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| "))
        )
    )
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert commands <= named
    assert named - commands <= {"command"}


def test_every_option_that_is_shown_exists() -> None:
    group = typer.main.get_command(app)
    commands = [*group.commands.values(), *group.commands["chaos"].commands.values()]  # type: ignore[attr-defined]
    known = {option for command in commands for parameter in command.params for option in parameter.opts}
    known |= {"--install-completion", "--help"}
    for line in PAGE.splitlines():
        if line.startswith("$ trainwright"):
            for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", line):
                assert option in known, line

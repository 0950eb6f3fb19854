"""`explain`: the API reference and the recipes' settings at hand, without a cluster."""

from __future__ import annotations

import json

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainwright.api.kinds import KINDS
from trainwright.api.names import API_VERSION
from trainwright.cli.app import Output, emit, show
from trainwright.cli.fields import Field, find, kinds, paths, recipes

NAME_WIDTH = 28
# Longer lines of prose are hard to read.
TEXT_WIDTH = 110


def explain(what: str | None, *, recursive: bool, output: Output) -> None:
    if what is None:
        if output is Output.TABLE:
            show(_contents(), width=TEXT_WIDTH)
        else:
            emit({"apiVersion": API_VERSION, "kinds": list(KINDS), "fields": paths(), "recipes": list(recipes())}, output)
        return
    field = find(what)
    if output is Output.TABLE:
        show(_view(field, recursive=recursive), width=TEXT_WIDTH)
    else:
        emit(field.wire(), output)


def _contents() -> RenderableType:
    parts: list[RenderableType] = [Text.assemble((" and ".join(KINDS), "bold"), f"  {API_VERSION}")]
    for top in kinds():
        parts += [Text(""), Text(top.path, "bold"), _list(top.fields, below=top.path)]
    parts += [Text(""), Text("recipes", "bold")]
    parts.append(_list(tuple(recipes().values()), below=""))
    return Group(*parts, Text(""), Text("trainwright explain spec.runPolicy, or any other of these names, says more.", "dim"))


def _view(field: Field, *, recursive: bool) -> RenderableType:
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    rows = [("type", field.type), ("required", "yes" if field.required else "")]
    if field.default not in (None, {}, []):
        rows.append(("default", shown(field.default)))
    rows.append(("allowed", ", ".join(field.allowed)))
    rows += [("must be" if number == 0 else "", text) for number, text in enumerate(field.constraints())]
    rows += [("note" if number == 0 else "", text) for number, text in enumerate(field.remarks)]
    for name, text in rows:
        if text:
            facts.add_row(name, Text(text))
    parts: list[RenderableType] = [Text(field.path, "bold"), Text(field.description), Text(""), facts]
    if field.fields:
        below = tuple(one for top in field.fields for one in top.walk()) if recursive else field.fields
        parts += [Text(""), Text("fields", "bold"), _list(below, below=field.path)]
    return Group(*parts)


def _list(fields: tuple[Field, ...], *, below: str) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(overflow="fold", max_width=NAME_WIDTH)
    grid.add_column(overflow="fold")
    for field in fields:
        name = field.path.removeprefix(below).removeprefix("[]").removeprefix(".") if below else field.path
        brief = f"({_brief(field)}) " if _brief(field) else ""
        grid.add_row(Text(name, "cyan"), Text.assemble((brief, "dim"), field.description))
    return grid


def _brief(field: Field) -> str:
    """`integer = 3`: type or choices, and the default or that one is needed."""
    what = " | ".join(field.allowed) or ("" if field.fields and not field.type.startswith("list") else field.type)
    if field.required:
        return f"{what}, required".removeprefix(", ")
    return what if field.default in (None, {}, []) else f"{what} = {shown(field.default)}".removeprefix(" ")


def shown(value: object) -> str:
    """A default as YAML would have it on one line."""
    return value if isinstance(value, str) and value else json.dumps(value)

"""What a script of the user's trains with, but badly: seen in its text, and said in the log before any rank starts.

Nothing crashes, and nothing is refused. It keeps silent unless the way from a softmax to CrossEntropyLoss can be followed through
names and straight lines of the script: what one branch does, and what has several meanings, may be right.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

SOFTMAX_TWICE = (
    "{script}, line {line}: the result of this softmax goes into CrossEntropyLoss, which takes a softmax itself. With two of "
    "them training is slow and the loss stays high. Leave this one out, and take softmax only where you show probabilities"
)

_LOSS = -1
_SAME_MODEL = {"to", "cuda", "cpu", "float", "double", "train", "eval"}
_AROUND_MODEL = {"DistributedDataParallel", "DDP", "DataParallel", "compile"}


def warning_on(path: Path) -> str | None:
    """What to say of this script; None when nothing is seen in it."""
    script = _Script()
    try:
        tree = ast.parse(path.read_text())
        script.read(tree.body, {})
        script.twice.clear()
        # Once more: a function that trains is often written above the model that it is called with.
        script.read(tree.body, dict(script.made))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return None  # Python itself will say it better
    return SOFTMAX_TWICE.format(script=path.name, line=script.twice[0]) if script.twice else None


class _Script:
    """What a name or an expression stands for: a softmax by its line, CrossEntropyLoss by `_LOSS`, all else by 0."""

    def __init__(self) -> None:
        self.twice: list[int] = []
        self.made: dict[str, int] = {}  # classes, and what is made of them, wherever in the script

    def read(self, body: Sequence[ast.stmt], names: dict[str, int]) -> list[int]:
        """Follow what names stand for through a block; what it returns, return by return."""
        returned = []
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                functions = [one for one in statement.body if isinstance(one, ast.FunctionDef)]
                returns = {one.name: self.read(one.body, dict(self.made)) for one in functions}
                self.made[statement.name] = names[statement.name] = min(returns.get("forward", []), default=0)
            elif isinstance(statement, ast.FunctionDef):
                self.made[statement.name] = names[statement.name] = 0
                self.read(statement.body, dict(self.made))
            elif isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] != "torch":
                foreign = dict.fromkeys([alias.asname or alias.name for alias in statement.names], 0)
                names |= foreign
                self.made |= foreign
            elif blocks := [block for _, block in ast.iter_fields(statement) if _is_block(block)]:
                for block in blocks:
                    returned += self.read(block, dict(names))
                names |= _stored(statement)
            else:
                returned += self._simple(statement, names)
        return returned

    def _simple(self, statement: ast.stmt, names: dict[str, int]) -> list[int]:
        for call in ast.walk(statement):
            if isinstance(call, ast.Call) and self._kind(call, names) == _LOSS:
                scores = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "input")]
                self.twice += [line for one in scores if (line := self._kind(one, names)) > 0]
        if isinstance(statement, ast.Return):
            return [self._kind(statement.value, names)]
        before = dict(names)
        names |= _stored(statement)
        if isinstance(statement, ast.Assign):
            kind = self._kind(statement.value, before)
            for target in map(ast.unparse, statement.targets):
                names[target] = kind
                if _is_made(statement.value):
                    self.made[target] = kind if self.made.get(target, kind) == kind else 0
        return []

    def _kind(self, value: ast.expr | None, names: dict[str, int]) -> int:
        if not isinstance(value, ast.Call):
            return names.get(ast.unparse(value), 0) if value is not None else 0
        if (text := ast.unparse(value.func)) in names:
            return names[text]
        name = text.rpartition(".")[2]
        if isinstance(value.func, ast.Call):
            return self._kind(value.func, names)
        if isinstance(value.func, ast.Attribute) and name in _SAME_MODEL:
            return self._kind(value.func.value, names)
        if value.args and name in {*_AROUND_MODEL, "Sequential"}:
            return self._kind(value.args[-1 if name == "Sequential" else 0], names)
        return _LOSS if name in ("CrossEntropyLoss", "cross_entropy") else value.lineno if name in ("Softmax", "softmax") else 0


def _is_block(field: object) -> bool:
    return isinstance(field, list) and bool(field) and isinstance(field[0], ast.stmt)


def _is_made(value: ast.expr) -> bool:
    """Whether an object is made here, of a class or around another one: `Net().to(device)`, `torch.compile(model)`."""
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _SAME_MODEL:
        value = value.func.value
    name = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
    return name in _AROUND_MODEL or name[:1].isupper()


def _stored(statement: ast.stmt) -> dict[str, int]:
    stored = [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return dict.fromkeys(stored, 0)

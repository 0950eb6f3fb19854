"""What a script of the user's can't be run with, seen in its text before any rank starts.

Both of these fail only after minutes, or not at all, with a model that has learnt from a part of its data.
"""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LEGACY = "TF_USE_LEGACY_KERAS"

HOROVOD_KERAS = (
    "{script} uses {name}: with Keras 3, Horovod's optimizer does not average what the ranks find, and says nothing. "
    "Use framework: tensorflow with MultiWorkerMirroredStrategy, or Horovod with PyTorch"
)
MWMS_FIT = (
    "{script} calls fit of Keras 3 under MultiWorkerMirroredStrategy, which Keras 3 can't (keras#20585). Set "
    "TF_USE_LEGACY_KERAS to 1 in spec.env, or write the loop with strategy.run"
)


def of_command(argv: Sequence[str]) -> Path | None:
    """The Python script in a command line, if there is one."""
    return next((Path(word) for word in argv if word.endswith(".py")), None)


def of_module(name: str) -> Path | None:
    """The file of a module that `import` would find. It isn't imported, nor are the packages around it."""
    first, *rest = name.split(".")
    spec = importlib.machinery.PathFinder.find_spec(first, [str(Path.cwd()), *sys.path])
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent.joinpath(*rest).with_suffix(".py") if rest else Path(spec.origin)


def fault_of(path: Path, *, workers: int, environ: Mapping[str, str]) -> str | None:
    """Why this script can't train; None when nothing is known against it."""
    try:
        text = path.read_text()
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return None  # Python itself will say it better
    imported = _imported(tree)
    for name in ("horovod.tensorflow", "horovod.keras"):
        if any(one == name or one.startswith(f"{name}.") for one in imported):
            return HOROVOD_KERAS.format(script=path.name, name=name)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    called = {call.attr for call in calls if not (isinstance(call.value, ast.Name) and call.value.id == "re")}
    is_legacy = environ.get(LEGACY, "").lower() in ("1", "true") or LEGACY in text or "tf_keras" in imported
    if workers > 1 and not is_legacy and {"MultiWorkerMirroredStrategy", "compile", "fit"} <= called:
        return MWMS_FIT.format(script=path.name)
    return None


def _imported(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found

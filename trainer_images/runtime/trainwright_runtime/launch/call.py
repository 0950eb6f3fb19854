"""`python -m trainwright_runtime.launch.call MODULE FUNCTION ARG…`: a user's function as the program of a rank.

The convention is that of console scripts, which every packaged function with an argument parser already follows: arguments
are in `sys.argv`, and what the function returns goes to `sys.exit`.
"""

from __future__ import annotations

import importlib
import os
import sys

from trainwright_runtime.exits import Exit, leave


def main() -> None:
    """Import the module and call the function."""
    _, module_name, function_name, *args = sys.argv
    # `python -m` puts the working directory first on the path; that is where the user's code is.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = importlib.import_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        leave(Exit.INVALID_CONFIG, f"module {module_name!r} has no function {function_name!r}")
    sys.argv = [module.__file__ or module_name, *args]
    sys.exit(function())


if __name__ == "__main__":
    main()

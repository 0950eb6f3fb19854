"""`python -m trainwright_runtime.launch.call MODULE[:FUNCTION] ARG…`: a Python module as the program of a rank.

A module runs as under `python -m`. A function follows the convention of console scripts: arguments are in `sys.argv`, and
what it returns goes to `sys.exit`.

The process ends without the last act of the interpreter, which tears down modules while threads of libraries still run: with
gloo's it now and then ends in SIGABRT, and a training that has done all of its work would count as failed (pytorch#179291).
Threads are waited for, exit handlers run and streams are flushed as ever.
"""

from __future__ import annotations

import atexit
import importlib
import os
import runpy
import sys

from trainwright_runtime.exits import Exit, leave


class _Ending:
    """The exit handler that was registered first, and so runs last."""

    def __init__(self) -> None:
        self.code = 1
        self._process = os.getpid()
        atexit.register(self)

    def __call__(self) -> None:
        if os.getpid() != self._process:
            return  # a fork of the program's own
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(self.code)


def main() -> None:
    """Run what the first argument names, as the program of this process."""
    ending = _Ending()
    _, target, *args = sys.argv
    # As `python -m` does; that is where the user's code is.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        _run(target, args)
    except SystemExit as request:
        ending.code = request.code if isinstance(request.code, int) else int(request.code is not None)
        raise
    except KeyboardInterrupt:
        ending.code = 130
        raise
    except Exception:
        _leave_the_others()
        raise
    else:
        ending.code = 0


def _leave_the_others() -> None:
    """JAX waits at exit for all processes, for minutes; and they wait for this one, which has failed."""
    if (distributed := sys.modules.get("jax.distributed")) is not None:
        atexit.unregister(distributed.shutdown)


def _run(target: str, args: list[str]) -> None:
    module_name, _, function_name = target.partition(":")
    if not function_name:
        sys.argv = [module_name, *args]
        runpy.run_module(module_name, run_name="__main__", alter_sys=True)
        return
    module = importlib.import_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        leave(Exit.INVALID_CONFIG, f"module {module_name!r} has no function {function_name!r}")
    sys.argv = [module.__file__ or module_name, *args]
    sys.exit(function())


if __name__ == "__main__":
    main()

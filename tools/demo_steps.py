"""What the parts of `make demo` share: saying what happens, and commands as a user would type them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
TRAINWRIGHT = str(Path(sys.executable).parent / "trainwright")
DEADLINE_SECONDS = 600

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """The heading of a part."""
    console.print(f"\n[bold cyan]▶[/] [bold]{text}[/]")


def shown(*words: str | Path) -> str:
    """A command as a user would type it."""
    return " ".join(Path(word).name if index == 0 else str(word) for index, word in enumerate(words)).replace(f"{ROOT}/", "")


def do(*words: str | Path, quiet: bool = False, check: bool = True) -> str:
    """Run a command, printed before and its output after."""
    if not quiet:
        console.print(f"[dim]$ {shown(*words)}[/]")
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if check and result.returncode != 0:
        raise SystemExit(f"demo: {shown(*words)} failed:\n{result.stdout}{result.stderr}")
    if not quiet:
        sys.stdout.write(result.stdout)
        sys.stdout.flush()
    return result.stdout

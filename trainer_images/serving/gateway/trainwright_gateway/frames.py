"""How the gateway speaks to its watcher: a head in JSON, and up to two bodies as they are."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

_SIZES = struct.Struct("!III")


def frame(head: dict[str, Any], first: bytes = b"", second: bytes = b"") -> bytes:
    """A head's `do` is sync, sample, label or report; a sample's bodies are what was asked and what was answered."""
    content = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((_SIZES.pack(len(content), len(first), len(second)), content, first, second))


def read(source: IO[bytes]) -> tuple[dict[str, Any], bytes, bytes] | None:
    """The next frame; None at the end of the source, in the middle of a frame too."""
    if len(sizes := source.read(_SIZES.size)) < _SIZES.size:
        return None
    wanted = _SIZES.unpack(sizes)
    head, first, second = (source.read(size) for size in wanted)
    if (len(head), len(first), len(second)) != wanted:
        return None
    return json.loads(head), first, second

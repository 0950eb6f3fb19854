"""Scalars out of TensorBoard's event files, which trainers leave in `logs/tensorboard/` of their workspace.

A file is a row of records: length (8 bytes), its checksum (4), an `Event` as protobuf, its checksum (4). Of an event we read wall
time, step, and values of the kind `simple_value`, which is what tensorboardX writes. TensorBoard's own reader would bring numpy,
grpc and protobuf into a command line that needs four fields. Format: event.proto and summary.proto of TensorFlow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LARGEST = 64 << 20
"""Bytes of one record: a length beyond that is damage."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Scalar:
    time: float
    step: int
    tag: str
    value: float


def scalars(folder: Path) -> list[Scalar]:
    """All of a folder, in order of time. What is damaged, or not written yet, ends a file and is no error."""
    found: list[Scalar] = []
    for path in sorted(folder.glob("**/events.out.tfevents.*")):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        for record in _records(content):
            try:
                found += _event(record)
            except (ValueError, IndexError, struct.error):
                break
    return sorted(found, key=lambda one: one.time)


def _records(content: bytes) -> Iterator[bytes]:
    place = 0
    while place + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        if length > LARGEST or place + 16 + length > len(content):
            return
        yield content[place + 12 : place + 12 + length]
        place += 16 + length


def _event(record: bytes) -> list[Scalar]:
    time, step, values = 0.0, 0, []
    for field, kind, value in _fields(record):
        if (field, kind) == (1, _FIXED64):
            (time,) = struct.unpack("<d", value)
        elif (field, kind) == (2, _VARINT):
            step = int.from_bytes(value, "little")
        elif (field, kind) == (5, _BYTES):
            values += [_value(one) for number, what, one in _fields(value) if (number, what) == (1, _BYTES)]
    return [Scalar(time, step, tag, number) for tag, number in values if tag and number is not None]


def _value(message: bytes) -> tuple[str, float | None]:
    tag, number = "", None
    for field, kind, value in _fields(message):
        if (field, kind) == (1, _BYTES):
            tag = value.decode(errors="replace")
        elif (field, kind) == (2, _FIXED32):
            (number,) = struct.unpack("<f", value)
    return tag, number


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, kind and raw value of each field. Raises ValueError or IndexError for what is no protobuf."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            number, end = _varint(message, place)
            value = number.to_bytes(8, "little")
        else:
            if kind == _BYTES:
                size, place = _varint(message, place)
            elif kind in (_FIXED64, _FIXED32):
                size = 8 if kind == _FIXED64 else 4
            else:
                raise ValueError(f"a field of kind {kind}")
            end = place + size
            value = message[place:end]
            if end > len(message):
                raise ValueError("a field that is cut off")
        yield key >> 3, kind, value
        place = end


def _varint(message: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & (1 << 64) - 1, place
        shift += 7
        if shift > 63:
            raise ValueError("a number that doesn't end")

"""Facts, workspaces and pages of `trainwright report`: what its suites are about, and how they read what it made."""

from __future__ import annotations

import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from support.builders import job
from trainwright.cli.reporting.facts import Facts, Steps, facts_of
from trainwright.observe.times import rfc3339

T0 = 1_795_292_761.0
KILLED = {
    "time": rfc3339(T0 + 100),
    "attempt": 1,
    "cause": "Killed",
    "pod": "digits-a1-worker-1",
    "signal": 9,
    "evidence": "the end",
}


def at(offset: float) -> str:
    return rfc3339(T0 + offset)


def facts(*, now: float = 252, steps: Steps | None = None, gpus: int = 0, **status: Any) -> Facts:
    """A job of two workers that was submitted at 0, looked at at `now`."""
    raw = job("digits").workers(2).gpus(gpus).build()
    raw["metadata"]["creationTimestamp"] = at(0)
    return facts_of(raw | {"status": status}, now=T0 + now, steps=steps)


def spent(**seconds: int) -> dict[str, int]:
    return {f"{name}Seconds": amount for name, amount in seconds.items()}


SUCCEEDED = {"phase": "Succeeded", "completionTime": at(252), "phaseSince": at(252), "startTime": at(21), "attempt": 1}
RESTARTED = SUCCEEDED | {
    "attempt": 2,
    "restarts": {"failure": 1, "total": 1, "byCause": {"Killed": 1}, "last": KILLED},
    "time": spent(queued=0, starting=21, productive=193, lost=38),
}


def event(reason: str, offset: float, message: str = "") -> dict[str, Any]:
    return {"reason": reason, "lastTimestamp": at(offset), "message": message}


def record(time: float, step: int, tag: str, value: float) -> bytes:
    """An event as tensorboardX writes it."""
    name = tag.encode()
    inner = b"\x0a" + bytes([len(name)]) + name + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(inner)]) + inner
    number = b"\x10" + (bytes([step]) if step < 128 else bytes([step & 0x7F | 0x80, step >> 7]))
    content = b"\x09" + struct.pack("<d", time) + number + b"\x2a" + bytes([len(summary)]) + summary
    return struct.pack("<Q", len(content)) + b"\0" * 4 + content + b"\0" * 4


def fill(folder: Path) -> None:
    """A workspace as a job leaves it that was submitted at T0, and what an older job of its name left before."""
    (folder / "logs" / "tensorboard").mkdir(parents=True)
    told = b"".join(record(T0 + 10 + step, step, "loss", 1 / step) for step in range(1, 50))
    (folder / "logs" / "tensorboard" / "events.out.tfevents.1.h").write_bytes(record(T0 - 900, 7, "loss", 99) + told)
    saved = folder / "checkpoints" / "step-40"
    saved.mkdir(parents=True)
    (saved / "manifest.json").write_text(json.dumps({"format": 1, "step": 40, "time": T0 + 51, "files": {"m": {"bytes": 2048}}}))
    damaged = folder / "checkpoints" / "step-41"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "report.json").write_text(json.dumps({"summary": "Accuracy <98%> on 269 images."}))


class Page(HTMLParser):
    """What a page holds; elements that are left open, or closed twice, are an error."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.scripts = 0
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(text)
        assert self._open == []
        self.text = " ".join(" ".join(self._words).replace("\u00a0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self._open.append(tag)
        self.scripts += tag == "script"
        self.pictures += [str(dict(attrs)["aria-label"])] if tag == "svg" else []
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self._words.append(data)


def page(text: str) -> Page:
    """The page, which needs nothing beside it."""
    found_ = Page(text)
    assert found_.links == []
    assert found_.scripts == 0
    assert not re.search(r"url\(|@import|@font-face|<link|<iframe", text)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
    return found_

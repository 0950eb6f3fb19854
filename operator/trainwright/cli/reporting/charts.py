"""Pictures as SVG that lies in the page: lines over time, areas upon each other, bars. Colours are the page's, by class.

Written with the standard library's element tree: what comes out is well-formed and escaped, whatever a metric is called. What is
on PyPI for this either escapes nothing (svg.py), brings scripts and a look of its own (pygal), or is larger than the command line
(matplotlib); and none draws in a page's colours, which a reader in the dark wants.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Tree

from trainwright.cli.reporting import axes
from trainwright.cli.reporting.pictures import Lines, Picture, Point, Unit
from trainwright.cli.reporting.timeline import Mark, Span

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 14, 14, 10, 24
LETTER = 6.4
"""Width of a letter of a tick, more or less."""
MOST_LINES = 8
LOG_FROM = 20.0
"""How many times the smallest value the largest must be for a scale of powers."""
DOTS = 30
"""Of a line with so few points each is seen."""
GAP = 3.5
"""A line is broken where nothing came for so many times as long as usual."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A line of a legend: `colour` is a class of the page."""

    colour: str
    name: str
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture and its legend. `remark`: what isn't shown."""

    svg: str
    keys: Sequence[Key] = ()
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What all pictures of a page share: from when to when, what happened meanwhile, and the time that counts as 0."""

    begin: float
    end: float
    origin: float
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a bar."""

    colour: str
    name: str
    seconds: float


def plot(picture: Picture, frame: Frame) -> Drawing:
    """Lines over time, or areas upon each other where they are shares of one whole."""
    wanted = picture.wanted
    lines, remark = _chosen(picture.lines)
    shown = _stacked(lines) if wanted.stacked else lines
    values = [value for points in shown.values() for _, value in points]
    log = wanted.log and min(values) > 0 and max(values) > LOG_FROM * min(values)
    ticks = axes.log_ticks(min(values), max(values)) if log else _linear(values, wanted.unit, wanted.highest)
    canvas = _Canvas(frame, ticks, wanted.unit, log=log, name=wanted.title)
    keys = []
    below: Sequence[Point] = ()
    for number, (name, points) in enumerate(shown.items()):
        if wanted.stacked:
            canvas.area(points, below, number)
            below = points
        else:
            canvas.line(points, number)
        said = [value for _, value in lines[name]]
        typical = statistics.median(said) if wanted.rate else said[-1]
        keys.append(Key(colour=f"c{number}", name=name, value=axes.value(typical, wanted.unit)))
    canvas.marks()
    return Drawing(svg=canvas.text(), keys=keys, remark=remark)


def phases(spans: Sequence[Span], frame: Frame, names: Mapping[str, str]) -> str:
    """The phases side by side on one line of time, with the failures above it. `names`: class and text of each, by phase."""
    width, height, top = 2 * WIDTH, 66, 24
    scale = _Scale(frame.begin, frame.end, LEFT, width - RIGHT)
    svg = _svg(width, height, "Phases")
    svg.set("class", "wide")
    for span in spans:
        left, right = scale(span.begin), scale(span.end)
        style = f"part {span.phase.value.lower()}"
        box = _add(svg, "rect", x=left, y=top, width=max(2.0, right - left), height=20, **{"class": style})
        _title(box, f"{span.phase.value}: {names.get(span.phase, '')}")
    for tick in axes.time_ticks(frame.begin - frame.origin, frame.end - frame.origin, most=13):
        x = scale(tick + frame.origin)
        _add(svg, "line", x1=x, x2=x, y1=top + 20, y2=top + 25, **{"class": "grid"})
        _label(svg, x, height - 6, axes.clock(tick), _anchor(x, width))
    for numbers, x, text in _grouped(frame.marks, scale):
        _add(svg, "line", x1=x, x2=x, y1=18, y2=top + 20, **{"class": "mark"})
        room = 9 + LETTER * len(numbers) / 2
        box = _add(svg, "rect", x=x - room, y=1, width=2 * room, height=17, rx=8.5, **{"class": "badge"})
        _title(box, text)
        _label(svg, x, 13.5, numbers, "middle", "number")
    return _text(svg)


def bar(parts: Sequence[Part]) -> str:
    """How a whole is divided."""
    width, height = 2 * WIDTH, 24
    whole = sum(part.seconds for part in parts)
    svg = _svg(width, height, "Parts")
    svg.attrib |= {"class": "bar", "preserveAspectRatio": "none"}
    x = 0.0
    for part in parts:
        size = width * part.seconds / whole
        box = _add(svg, "rect", x=x, y=0, width=max(1.0, size), height=height, **{"class": f"part {part.colour}"})
        _title(box, part.name)
        x += size
    return _text(svg)


class _Scale:
    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        self._low, self._first = low, first
        self._factor = (last - first) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._first + (value - self._low) * self._factor


class _Canvas:
    """Axes, and what is drawn between them."""

    def __init__(self, frame: Frame, ticks: Sequence[float], unit: Unit, *, log: bool, name: str) -> None:
        self._frame, self._log = frame, log
        words = [f"{tick:g}".replace("e-0", "e-") for tick in ticks] if log else axes.labels(ticks, unit)
        left = LEFT + LETTER * max(len(word) for word in words)
        self._x = _Scale(frame.begin, frame.end, left, WIDTH - RIGHT)
        self._y = _Scale(self._of(ticks[0]), self._of(ticks[-1]), HEIGHT - BOTTOM, TOP)
        self._svg = _svg(WIDTH, HEIGHT, name)
        for tick, word in zip(ticks, words, strict=True):
            y = self._y(self._of(tick))
            _add(self._svg, "line", x1=left, x2=WIDTH - RIGHT, y1=y, y2=y, **{"class": "grid"})
            _label(self._svg, left - 7, y + 4, word, "end")
        room = max(2, int((WIDTH - left) / 76))
        for tick in axes.time_ticks(frame.begin - frame.origin, frame.end - frame.origin, most=room):
            x = self._x(tick + frame.origin)
            _add(self._svg, "line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, **{"class": "grid"})
            _label(self._svg, x, HEIGHT - 6, axes.clock(tick), _anchor(x, WIDTH))

    def line(self, points: Sequence[Point], number: int) -> None:
        for run in _runs(points):
            if len(points) <= DOTS or len(run) == 1:
                for at, value in run:
                    _add(self._svg, "circle", cx=self._x(at), cy=self._height(value), r=2.5, **{"class": f"dot c{number}"})
            if len(run) > 1:
                _add(self._svg, "path", d=f"M{self._path(run)}", **{"class": f"line c{number}"})

    def area(self, points: Sequence[Point], below: Sequence[Point], number: int) -> None:
        floor = dict(below)
        for run in _runs(points):
            back = [(at, floor.get(at, 0.0)) for at, _ in reversed(run)]
            _add(self._svg, "path", d=f"M{self._path(run)}L{self._path(back)}Z", **{"class": f"area c{number}"})

    def marks(self) -> None:
        for mark in self._frame.marks:
            if self._frame.begin <= mark.at <= self._frame.end:
                x = self._x(mark.at)
                line = _add(self._svg, "line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, **{"class": "mark"})
                _title(line, mark.text)

    def text(self) -> str:
        return _text(self._svg)

    def _of(self, value: float) -> float:
        return math.log10(value) if self._log else value

    def _height(self, value: float) -> float:
        return self._y(self._of(value))

    def _path(self, points: Sequence[Point]) -> str:
        return "L".join(f"{self._x(at):.1f} {self._height(value):.1f}" for at, value in points)


def _chosen(lines: Lines) -> tuple[dict[str, Sequence[Point]], str]:
    """All lines, or of many those that stand out: that far from the median of all, by their mean."""
    if len(lines) <= MOST_LINES:
        return dict(lines), ""
    means = {name: statistics.fmean(value for _, value in points) for name, points in lines.items()}
    middle = statistics.median(means.values())
    far = set(sorted(means, key=lambda name: -abs(means[name] - middle))[: MOST_LINES - 1])
    typical = min((name for name in means if name not in far), key=lambda name: abs(means[name] - middle))
    kept = {name: points for name, points in lines.items() if name in far or name == typical}
    return kept, f"{len(lines)} in all: those that differ most, and {typical} as one of the others"


def _stacked(lines: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
    """Each line upon those before it."""
    sums: dict[float, float] = dict.fromkeys(sorted({at for points in lines.values() for at, _ in points}), 0.0)
    found = {}
    for name, points in lines.items():
        for at, value in points:
            sums[at] += value
        found[name] = list(sums.items())
    return found


def _linear(values: Sequence[float], unit: Unit, highest: float | None) -> list[float]:
    """From 0, unless all lies far from it."""
    low, high = min(values), max(values)
    if low > 0 and high - low > low * 0.15:
        low = 0.0
    if low > 0 and unit in (Unit.SECONDS, Unit.BYTES, Unit.SHARE):
        low = 0.0
    if highest is not None:
        return axes.value_ticks(0.0, highest, unit=unit)
    return axes.value_ticks(low, high, unit=unit)


def _runs(points: Sequence[Point]) -> Iterator[list[Point]]:
    """The line in pieces, broken where nothing came for long."""
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(points)]
    most = GAP * statistics.median(gaps) if len(gaps) >= 3 else float("inf")
    run: list[Point] = []
    for point in points:
        if run and point[0] - run[-1][0] > most:
            yield run
            run = []
        run.append(point)
    if run:
        yield run


def _grouped(marks: Sequence[Mark], scale: _Scale) -> Iterator[tuple[str, float, str]]:
    """Numbers, place and text of marks; those that would lie upon each other as one."""
    groups: list[list[int]] = []
    for number, mark in enumerate(marks):
        if groups and scale(mark.at) - scale(marks[groups[-1][0]].at) < 30:
            groups[-1].append(number)
        else:
            groups.append([number])
    for group in groups:
        numbers = str(group[0] + 1) if len(group) == 1 else f"{group[0] + 1}–{group[-1] + 1}"
        yield numbers, scale(marks[group[0]].at), "\n".join(marks[number].text for number in group)


def _svg(width: float, height: float, name: str) -> Tree.Element:
    return Tree.Element("svg", {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": name})


def _add(parent: Tree.Element, tag: str, **attributes: float | str) -> Tree.Element:
    texts = {name: value if isinstance(value, str) else f"{value:.1f}" for name, value in attributes.items()}
    return Tree.SubElement(parent, tag, texts)


def _label(parent: Tree.Element, x: float, y: float, text: str, anchor: str, style: str = "tick") -> None:
    _add(parent, "text", x=x, y=y, **{"text-anchor": anchor, "class": style}).text = text


def _title(parent: Tree.Element, text: str) -> None:
    """What a reader sees who points at it."""
    Tree.SubElement(parent, "title").text = text


def _anchor(x: float, width: float) -> str:
    """A label at the edge stays inside."""
    return "end" if x > width - 24 else "start" if x < LEFT + 4 else "middle"


def _text(svg: Tree.Element) -> str:
    return Tree.tostring(svg, encoding="unicode")

"""Where an axis has its ticks, and what is written beside them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from trainwright.cli.reporting.pictures import Unit

_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000)
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def time_ticks(begin: float, end: float, most: int = 7) -> list[float]:
    """Round times between two, at most `most`; all in seconds since the job's creation."""
    step = next((one for one in _TIMES if (end - begin) / one <= most - 1), _TIMES[-1])
    return [float(step * number) for number in range(math.ceil(begin / step), math.floor(end / step) + 1)]


def clock(seconds: float) -> str:
    """`0`, `40 s`, `2 min`, `2:30 min`, `1:05 h`, `3 d`: of round times."""
    whole = round(seconds)
    if whole == 0:
        return "0"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" if whole % 60 == 0 else f"{whole // 60}:{whole % 60:02d} min"
    if whole < 172800:
        return f"{whole // 3600} h" if whole % 3600 == 0 else f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} d" if whole % 86400 == 0 else f"{whole / 86400:.1f} d"


def value_ticks(low: float, high: float, most: int = 5, *, unit: Unit = Unit.NUMBER) -> list[float]:
    """Round values that hold `low` and `high` between the first and the last; bytes by powers of two."""
    if high <= low:
        high = low + (abs(low) * 0.1 or 1.0)
    rough = (high - low) / most
    if unit is Unit.BYTES:
        step = 2.0 ** math.ceil(math.log2(rough))
    else:
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around both; with two and five between where there are few. `low` > 0."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last == first:
        last += 1
    stride = -(-(last - first) // 6)
    if last - first > 2:
        return [10.0**power for power in range(first, last + stride, stride)]
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    below = max((tick for tick in ticks if tick < low), default=ticks[0])
    above = min((tick for tick in ticks if tick > high), default=ticks[-1])
    return sorted({below, *inside, above})


def labels(ticks: Sequence[float], unit: Unit) -> list[str]:
    """What stands beside ticks: as many digits as tell them apart."""
    steps = [abs(after - before) for before, after in itertools.pairwise(ticks) if after != before]
    return [value(tick, unit, step=min(steps, default=0.0)) for tick in ticks]


def value(number: float, unit: Unit, *, step: float = 0.0) -> str:
    """A value with its unit: `85%`, `120 ms`, `1.5 MiB`, `12k`. `step`: the distance to neighbours, which must differ."""
    if unit is Unit.SHARE:
        if not step:
            return f"{100 * number:.1f}%"
        return f"{_digits(100 * number, 100 * step)}%"
    if unit is Unit.SECONDS:
        return _seconds(number, step)
    if unit is Unit.BYTES:
        power = min(len(_BYTES) - 1, int(math.log2(abs(number)) // 10)) if abs(number) >= 1 else 0
        return f"{_digits(number / 1024**power, step / 1024**power)} {_BYTES[power]}"
    size = abs(number)
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= 10 * factor or (size >= factor and letter != "k"):
            return f"{_digits(number / factor, step / factor)}{letter}"
    if 0 < size < 1e-3:
        return f"{number:.0e}".replace("e-0", "e-") if step else f"{number:.2e}".replace("e-0", "e-")
    return _digits(number, step)


def _seconds(number: float, step: float) -> str:
    size = abs(number)
    if number == 0:
        return "0"
    if size < 1e-3:
        return f"{_digits(number * 1e6, step * 1e6)} µs"
    if size < 1:
        return f"{_digits(number * 1e3, step * 1e3)} ms"
    if size < 120:
        return f"{_digits(number, step)} s"
    return f"{_digits(number / 60, step / 60)} min" if size < 7200 else f"{_digits(number / 3600, step / 3600)} h"


def _digits(number: float, step: float) -> str:
    """Without a step: three digits that matter."""
    if number == 0:
        return "0"
    if step:
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        while places < 6 and abs(round(step, places) - step) > step * 0.01:
            places += 1
    else:
        places = max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:,.{places}f}"

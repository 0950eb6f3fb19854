"""The pictures of `trainwright report`, and what a workspace gives for them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.reports import RESTARTED, T0, facts, fill, record
from support.twin import ROOT
from trainwright.cli.reporting import axes, charts
from trainwright.cli.reporting.charts import Frame
from trainwright.cli.reporting.pictures import WANTED, Picture, Unit
from trainwright.cli.reporting.tensorboard import scalars
from trainwright.cli.reporting.workspace import found


@pytest.mark.parametrize(
    ("numbers", "unit", "text"),
    [
        ((0.0, 0.97), Unit.NUMBER, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((0.0, 1.0), Unit.SHARE, ["0%", "20%", "40%", "60%", "80%", "100%"]),
        ((0.0, 0.004), Unit.SHARE, ["0%", "0.1%", "0.2%", "0.3%", "0.4%"]),
        ((0.0, 0.25), Unit.SECONDS, ["0", "50 ms", "100 ms", "150 ms", "200 ms", "250 ms"]),
        ((0.0, 3_000_000.0), Unit.BYTES, ["0 B", "1 MiB", "2 MiB", "3 MiB"]),
        ((0.0, 48_000.0), Unit.NUMBER, ["0", "10k", "20k", "30k", "40k", "50k"]),
    ],
)
def test_ticks_are_round_and_differ(numbers: tuple[float, float], unit: Unit, text: list[str]) -> None:
    assert axes.labels(axes.value_ticks(*numbers, unit=unit), unit) == text


@pytest.mark.parametrize("span", [0.5, 1, 7, 80, 252, 5000, 90_000, 3e6, 9e7])
def test_there_are_few_ticks_of_time_for_every_length(span: float) -> None:
    ticks = axes.time_ticks(0, span)
    assert 1 <= len(ticks) <= 40
    assert len({axes.clock(tick) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [1e-9, 1e9], [-3.0, 2.0], [1e-12] * 3, [7e22, 1.0]], ids=str)
@pytest.mark.parametrize("title", [wanted.title for wanted in WANTED])
def test_every_picture_can_be_drawn_of_every_value(title: str, values: list[float]) -> None:
    (wanted,) = [one for one in WANTED if one.title == title]
    lines = {f'<rank "{number}">': [(T0 + 10 * place, value) for place, value in enumerate(values)] for number in range(20)}
    drawn = charts.plot(Picture(wanted=wanted, lines=lines), Frame(begin=T0, end=T0 + 100, origin=T0))
    ElementTree.fromstring(drawn.svg)
    assert "nan" not in drawn.svg
    assert len(drawn.keys) == charts.MOST_LINES
    assert "20 in all" in drawn.remark


def test_of_many_ranks_the_one_that_differs_is_drawn() -> None:
    (wanted,) = [one for one in WANTED if one.title == "Step time by rank"]
    lines = {f"rank {number}": [(T0, 0.5 if number == 17 else 0.1), (T0 + 1, 0.1)] for number in range(64)}
    drawn = charts.plot(Picture(wanted=wanted, lines=lines), Frame(begin=T0, end=T0 + 1, origin=T0))
    assert "rank 17" in [key.name for key in drawn.keys]


def test_a_line_is_broken_where_nothing_was_measured() -> None:
    (wanted,) = [one for one in WANTED if one.title == "Throughput"]
    points = [(T0 + second, 1.0) for second in range(100) if not 40 <= second < 60]
    drawn = charts.plot(Picture(wanted=wanted, lines={"samples": points}), Frame(begin=T0, end=T0 + 100, origin=T0))
    assert drawn.svg.count("<path") == 2


def test_pictures_are_those_of_the_dashboard() -> None:
    panels = json.loads((ROOT / "manifests" / "monitoring" / "dashboards" / "job.json").read_text())["panels"]
    assert {wanted.title for wanted in WANTED} <= {panel["title"] for panel in panels}
    left_out = {panel["title"] for panel in panels if panel["type"] == "timeseries"} - {wanted.title for wanted in WANTED}
    # The first and the last are bars of the page; silence says something of a job that runs now, and nothing afterwards.
    assert left_out == {"Where the time went", "Start", "Silence by rank"}


def test_scalars_are_read_up_to_what_is_damaged(tmp_path: Path) -> None:
    whole = record(T0, 3, "loss", 0.5) + record(T0 + 1, 300, "loss", 0.25)
    (tmp_path / "events.out.tfevents.1.host").write_bytes(whole + record(T0 + 2, 4, "loss", 1)[:-9])
    (tmp_path / "events.out.tfevents.2.host").write_bytes(record(T0 - 5, 1, "val_accuracy", 1.0) + b"\xff" * 64)
    (tmp_path / "events.out.tfevents.3.host").write_bytes(b"")
    told = scalars(tmp_path)
    assert [(one.time - T0, one.step, one.tag, one.value) for one in told] == [
        (-5, 1, "val_accuracy", 1.0),
        (0, 3, "loss", 0.5),
        (1, 300, "loss", 0.25),
    ]


def test_a_workspace_gives_half_of_the_pictures(tmp_path: Path) -> None:
    fill(tmp_path)
    there = found(tmp_path, facts(**RESTARTED))
    assert set(there.lines) == {"Steps done", "Step time", "Training loss", "Size"}
    assert max(value for _, value in there.lines["Training loss"]["loss"]) == 1, (
        "what an older job of that name left doesn't count"
    )
    assert [value for _, value in there.lines["Step time"]["mean between two records"]] == pytest.approx([1.0] * 48)
    assert there.lines["Size"]["bytes"] == [(T0 + 51, 2048)]
    assert there.holds == "49 values of TensorBoard's events, the manifests of 1 checkpoint, the trainer's report"

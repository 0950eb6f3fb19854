"""The bench's arithmetic: medians, ratios, verdicts; and that every range is well-formed. Nothing is measured here."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import gateway, publish
from bench.__main__ import GROUPS
from bench.recipes import RECIPES, STARTS, started
from bench.results import Figure, Range, Verdict, judge, passed, read_ranges, rows
from bench.training import PACES
from trainwright.local.binaries import KWOK

TOOLS = Path(__file__).resolve().parents[2] / "tools"
RANGES = TOOLS / "bench" / "ranges.toml"


def limits(bound: float | None = 2.0) -> Range:
    return Range(name="gang", group="start", what="a gang", unit="x floor", bound=bound)


def test_a_figure_with_a_floor_is_the_ratio_of_the_medians() -> None:
    figure = Figure(name="gang", samples=[3.0, 9.0, 4.0], floor=[2.0, 1.0, 8.0])
    assert figure.value == pytest.approx(4.0 / 2.0)
    assert figure.spread == pytest.approx((0.5, 9.0))


def test_repeats_that_are_not_in_pairs_are_compared_with_the_median_floor() -> None:
    assert Figure(name="growth", samples=[3.0], floor=[1.0, 2.0]).spread == pytest.approx((2.0, 2.0))


def test_a_figure_without_a_floor_is_its_median() -> None:
    assert Figure(name="gang", samples=[5.0, 1.0, 2.0]).value == 2.0


@pytest.mark.parametrize(
    ("value", "bound", "verdict"),
    [
        pytest.param(1.9, 2.0, Verdict.WITHIN, id="below the bound"),
        pytest.param(2.0, 2.0, Verdict.WITHIN, id="at the bound"),
        pytest.param(2.01, 2.0, Verdict.BROKEN, id="above the bound"),
        pytest.param(99.0, None, Verdict.FOR_INFORMATION, id="no bound"),
    ],
)
def test_the_verdict(value: float, bound: float | None, verdict: Verdict) -> None:
    assert judge(limits(bound), Figure(name="gang", samples=[value])) is verdict


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        pytest.param(0.96, Verdict.BROKEN, id="below the least"),
        pytest.param(0.97, Verdict.WITHIN, id="at the least"),
        pytest.param(0.99, Verdict.WITHIN, id="above the least"),
    ],
)
def test_what_should_be_high_has_a_least(value: float, verdict: Verdict) -> None:
    wanted = Range(name="digits", group="quality", what="digits", unit="accuracy", least=0.97)
    assert judge(wanted, Figure(name="digits", samples=[value])) is verdict
    assert wanted.bounds == "≥ 0.97"
    assert judge(wanted.for_information(), Figure(name="digits", samples=[value])) is Verdict.FOR_INFORMATION


def test_what_was_expected_and_not_measured_does_not_pass() -> None:
    table = rows([limits()], [])
    assert table[0].verdict is Verdict.NOT_MEASURED
    assert not passed(table)


def test_a_broken_bound_does_not_pass_and_information_does() -> None:
    assert passed(rows([limits(None)], [Figure(name="gang", samples=[99.0])]))
    assert not passed(rows([limits()], [Figure(name="gang", samples=[99.0])]))


def test_a_figure_that_no_range_names_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="gnag"):
        rows([limits()], [Figure(name="gnag", samples=[1.0])])


def test_the_committed_ranges_can_be_read_and_each_has_a_word_for_the_table() -> None:
    ranges = read_ranges(RANGES.read_text())
    assert all(one.what and one.unit for one in ranges)
    assert {one.group for one in ranges} == set(GROUPS)
    assert any(one.quick for one in ranges)


def test_each_framework_that_is_measured_has_its_ranges_and_no_range_waits_for_one_that_is_not() -> None:
    found: dict[str, set[str]] = {}
    for one in read_ranges(RANGES.read_text()):
        found.setdefault(one.group, set()).add(one.name)
    assert {*(pace.name for pace in PACES), "telling"} == found["step"]
    assert {recipe.figure for recipe in RECIPES} == found["quality"]
    assert {started(recipe, workers) for recipe, workers in STARTS} == found["startup"]
    assert found["gateway"] == gateway.FIGURES
    assert found["publish"] == publish.FIGURES


def test_the_nodes_are_simulated_by_the_version_that_is_built() -> None:
    assert f"sigs.k8s.io/kwok {KWOK}" in (TOOLS / "kwok" / "go.mod").read_text()


def test_on_a_shared_machine_counts_are_judged_and_times_are_shown() -> None:
    ranges = [
        Range(name="requests", group="cost", what="", unit="a job", bound=6),
        Range(name="start", group="start", what="", unit="x floor", bound=2),
    ]
    table = rows(
        [one.for_information() if one.timed else one for one in ranges],
        [Figure(name="requests", samples=[7.0]), Figure(name="start", samples=[9.0])],
    )
    assert [row.verdict for row in table] == [Verdict.BROKEN, Verdict.FOR_INFORMATION]

"""The pictures of a report, drawn from its plain data: each alone as PNG for the page, and all on one sheet."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl

from trainwright_runtime.reporting.report import Curve, Importance, Report

mpl.use("Agg")
from matplotlib import pyplot

Draw = Callable[[Any], None]
"""Draws into the matplotlib axes that it is given."""

DPI = 144
COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#ca8a04", "#db2777", "#4b5563", "#65a30d")
GREY = "#9ca3af"
MAX_NAMES = 20
"""Features that are shown, the most important first; classes beyond that many are not written beside a matrix."""

STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def all_of(report: Report) -> dict[str, tuple[Draw, float]]:
    """What there is to draw, by title, each with its height in inches at a width of 6."""
    found: dict[str, tuple[Draw, float]] = {curve.title: (_curve(curve), 3.8) for curve in report.curves}
    evaluation = report.evaluation
    if "confusion" in evaluation:
        found["Confusion matrix"] = (_confusion(evaluation), 4.6)
    if evaluation.get("roc"):
        found["ROC"] = (_rates(evaluation["roc"], "area", "false positive rate", "true positive rate", diagonal=True), 4.6)
    if evaluation.get("precisionRecall"):
        found["Precision and recall"] = (_rates(evaluation["precisionRecall"], "average", "recall", "precision"), 4.6)
    if evaluation.get("kind") == "regression":
        found["Predicted and true"] = (_predictions(evaluation), 4.6)
        found["Residuals"] = (_residuals(evaluation), 4.6)
    for importance in report.importances:
        found[importance.title] = (_importance(importance), 1.2 + 0.24 * min(MAX_NAMES, len(importance.names)))
    return found


def png(draw: Draw, height: float) -> bytes:
    """One picture alone; its title is the page's to write."""
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(6, height), layout="constrained")
        draw(axes)
        return _saved(figure)


def overview(report: Report) -> bytes:
    """All pictures on one sheet."""
    drawings = all_of(report)
    with pyplot.rc_context(STYLE):
        columns = min(3, max(1, len(drawings)))
        rows = -(-len(drawings) // columns) or 1
        figure, grid = pyplot.subplots(rows, columns, figsize=(5.2 * columns, 4.4 * rows), layout="constrained", squeeze=False)
        for axes in grid.flat[len(drawings) :]:
            axes.set_axis_off()
        for axes, (title, (draw, _)) in zip(grid.flat, drawings.items(), strict=False):
            draw(axes)
            axes.set_title(title)
        figure.suptitle(f"{report.title}: {report.summary}", fontsize=12, wrap=True)
        return _saved(figure)


def _saved(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    pyplot.close(figure)
    return buffer.getvalue()


def _curve(curve: Curve) -> Draw:
    def draw(axes: Any) -> None:
        for name, points in curve.lines.items():
            marker = "o" if len(points) <= 30 else None
            axes.plot([x for x, _ in points], [y for _, y in points], label=name, marker=marker, markersize=3)
        axes.set(xlabel=curve.x_label, ylabel=curve.y_label, yscale="log" if curve.log else "linear")
        if len(curve.lines) > 1:
            axes.legend()

    return draw


def _confusion(evaluation: Mapping[str, Any]) -> Draw:
    confusion, classes = evaluation["confusion"], evaluation["classes"]

    def draw(axes: Any) -> None:
        shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        axes.set(xlabel="predicted class", ylabel="true class")
        if len(classes) > MAX_NAMES:
            return
        names = [name if len(name) <= 14 else f"{name[:13]}…" for name in classes]
        is_long = max(map(len, names)) * len(names) > 40
        axes.set_xticks(range(len(names)), names, rotation=45 if is_long else 0, ha="right" if is_long else "center")
        axes.set_yticks(range(len(names)), names)
        for row, counts in enumerate(confusion):
            for column, count in enumerate(counts):
                if count:
                    colour = "white" if shares[row][column] > 0.5 else "#1f2937"
                    axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)

    return draw


def _rates(curves: Mapping[str, Any], area: str, x_label: str, y_label: str, *, diagonal: bool = False) -> Draw:
    def draw(axes: Any) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        for name, curve in curves.items():
            points = curve["points"]
            label = f"{name} ({curve[area]:.3f})"
            axes.plot([x for x, _ in points], [y for _, y in points], label=label, drawstyle="default", linewidth=1.6)
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(
            title="area" if diagonal else "average precision", title_fontsize=9, loc="lower right" if diagonal else "lower left"
        )

    return draw


def _predictions(evaluation: Mapping[str, Any]) -> Draw:
    def draw(axes: Any) -> None:
        points = evaluation["points"]
        ends = [min(min(point) for point in points), max(max(point) for point in points)]
        axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
        axes.scatter([x for x, _ in points], [y for _, y in points], s=16, alpha=0.6, linewidths=0)
        axes.set(xlabel="true value", ylabel="predicted")

    return draw


def _residuals(evaluation: Mapping[str, Any]) -> Draw:
    def draw(axes: Any) -> None:
        points = evaluation["points"]
        axes.axhline(0, color=GREY, linestyle="--", linewidth=1)
        axes.scatter([said for _, said in points], [true - said for true, said in points], s=16, alpha=0.6, linewidths=0)
        axes.set(xlabel="predicted", ylabel="true value less predicted")

    return draw


def _importance(importance: Importance) -> Draw:
    def draw(axes: Any) -> None:
        spread = importance.spread or [0.0] * len(importance.names)
        ordered = sorted(zip(importance.values, importance.names, spread, strict=True), key=lambda one: -one[0])[:MAX_NAMES]
        names = [name if len(name) <= 28 else f"{name[:27]}…" for _, name, _ in reversed(ordered)]
        errors = [one[2] for one in reversed(ordered)] if importance.spread else None
        places = range(len(ordered))
        axes.barh(places, [one[0] for one in reversed(ordered)], xerr=errors, color=COLOURS[0], ecolor=GREY, height=0.7)
        axes.set_yticks(places, names)
        axes.grid(visible=False, axis="y")
        axes.set(xlabel=importance.meaning)

    return draw

"""A report as one HTML file that needs nothing beside it: no script, no font, no address."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import jinja2
import yaml

from trainwright_runtime.reporting.figures import all_of, png
from trainwright_runtime.reporting.report import Report

HEADLINES = 6
"""Metrics that are shown large; the others follow in a table."""


def render(report: Report) -> str:
    """The page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": shown, "label": label}
    metrics = list(report.metrics.items())
    html: str = environment.get_template("report.html.j2").render(
        report=report,
        headlines=metrics[:HEADLINES],
        more=metrics[HEADLINES:],
        figures={title: base64.b64encode(png(draw, height)).decode() for title, (draw, height) in all_of(report).items()},
        config=yaml.safe_dump(report.data()["config"], sort_keys=False, allow_unicode=True, default_flow_style=False),
    )
    return html


def shown(value: Any) -> str:
    """A value as a person writes it: four digits that matter, thousands apart."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if 1e-3 <= abs(value) <= 1:
        return f"{value:.4f}"
    if value == 0 or 1 < abs(value) < 1e6:
        return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0"
    return f"{value:.3g}"


def label(name: str) -> str:
    """`test_accuracy` as words; what is called after letters alone stays so."""
    part, _, rest = name.partition("_")
    words = {"val": "validation", "r2": "R²", "f1": "F1", "auc": "AUC", "roc": "ROC", "mae": "MAE", "mse": "MSE", "rmse": "RMSE"}
    return " ".join(words.get(word, word) for word in [part, *rest.split("_")] if word)

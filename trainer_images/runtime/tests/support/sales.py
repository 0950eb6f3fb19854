"""A table of several series with a covariate, for recipes that forecast."""

from __future__ import annotations

import json
from pathlib import Path

SALES_CONFIG = (
    "{target: sold, time: day, series: shop, covariates: [rain], model: transformer, window: 14, season: 7, epochs: 12, "
    "learning_rate: 0.01}"
)


def sales(folder: Path) -> str:
    """Sales of three shops that depend on yesterday's rain and on the day of the week; returns what TRAINWRIGHT_DATA says."""
    lines = ["day,shop,rain,sold"]
    for shop in range(3):
        rain_before = 0
        for day in range(200):
            rain = (day * 7 + shop * 3 + day // 5) % 4
            lines.append(f"{day},shop-{shop},{rain},{100 * (shop + 1) + 5 * (day % 7) - 8 * rain_before}")
            rain_before = rain
    folder.mkdir()
    (folder / "sales.csv").write_text("\n".join(lines))
    return json.dumps({"train": {"path": str(folder)}})

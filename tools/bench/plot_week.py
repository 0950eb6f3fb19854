"""`python plot_week.py WEEK.JSON PICTURE`: draws what `bench.week` has left; run by an environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

SMOOTH = 8


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9, 5.2), height_ratios=(2, 1.2), layout="constrained", gridspec_kw={"hspace": 0.08}
    )
    hours = told["sample"] / 3600
    for week in told["weeks"]:
        busy = [100 * share for share in week["busy"]]
        even = [
            sum(busy[max(0, at - SMOOTH + 1) : at + 1]) / len(busy[max(0, at - SMOOTH + 1) : at + 1]) for at in range(len(busy))
        ]
        mean = sum(busy) / len(busy)
        above.plot([(at + 1) * hours / 24 for at in range(len(even))], even, linewidth=1.3, label=f"{week['name']}: {mean:.0f} %")
    above.set(
        ylim=(0, 102), xlim=(0, 7), ylabel="GPUs that train, %", xlabel="days", title="A simulated week: 128 GPUs, the same jobs"
    )
    above.grid(alpha=0.3)
    above.legend(loc="lower right")
    kinds = list(told["weeks"][0]["waits"])
    width = 0.8 / len(told["weeks"])
    for number, week in enumerate(told["weeks"]):
        places = [at + number * width for at in range(len(kinds))]
        bars = below.bar(places, [week["waits"][kind] for kind in kinds], width * 0.95)
        below.bar_label(bars, fmt="%.1f", fontsize=8)
    below.set_xticks([at + width for at in range(len(kinds))], kinds)
    below.set(ylabel="median wait, hours")
    below.margins(y=0.18)
    below.grid(axis="y", alpha=0.3)
    figure.savefig(sys.argv[2], dpi=90)


if __name__ == "__main__":
    main()

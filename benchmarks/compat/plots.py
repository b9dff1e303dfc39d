"""Recombination and own accuracy by method, a dot a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt

from benchmarks.compat.protocol import DEPTHS, METHODS, SETTINGS


def draw(found: list[dict[str, Any]], folder: Path) -> list[tuple[str, str]]:
    """Draw what there are cells for; returns file names and titles."""
    ours = [c for c in found if c["setting"] == SETTINGS[0].name]
    if not ours:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.5, 6), sharex=True, layout="constrained")
    for index, depth in enumerate(DEPTHS):
        cells = [c for c in ours if c["depth"] == depth]
        places = [_place(c["method"]) + 0.2 * (index - 1) for c in cells]
        above.plot(places, [c["recombined"] for c in cells], "o", label=f"split {depth}", alpha=0.7)
        above.plot(places, [c["restated"] for c in cells], "_", color=f"C{index}", alpha=0.7)
        below.plot(places, [100 * c["own"] for c in cells], "o", alpha=0.7)
    above.set_ylabel("normalised recombination\n(dash: re-estimated)")
    below.set_ylabel("own accuracy, %")
    above.axhline(0, color="grey", linewidth=0.8)
    below.set_xticks(range(len(METHODS)), [m.name for m in METHODS], rotation=20)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    above.legend()
    # Without a date, and with fixed ids, the same cells give the same file.
    with plt.rc_context({"svg.hashsalt": "graftery", "svg.fonttype": "none"}):
        figure.savefig(folder / "compat-methods.svg", metadata={"Date": None})
    plt.close(figure)
    return [("compat-methods.svg", "Recombination and own accuracy by method")]


def _place(method: str) -> int:
    return [m.name for m in METHODS].index(method)

"""Recombination and own accuracy by method, a dot a seed: a file a setting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.compat.protocol import SETTINGS, Setting


def draw(found: list[dict[str, Any]], folder: Path) -> list[tuple[str, str]]:
    """Draw what there are cells for; returns file names and titles."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for setting in SETTINGS:
        ours = [cell for cell in found if cell["setting"] == setting.name]
        if not ours:
            continue
        name = f"compat-{re.sub(r'[^a-z0-9]+', '-', setting.name)}.svg"
        figure = _figure(setting, ours)
        # Without a date, and with fixed ids, the same cells give the same file.
        with plt.rc_context({"svg.hashsalt": "graftery", "svg.fonttype": "none"}):
            figure.savefig(folder / name, metadata={"Date": None})
        plt.close(figure)
        drawn.append((name, f"Recombination and own accuracy by method: {setting.name}"))
    return drawn


def _figure(setting: Setting, ours: list[dict[str, Any]]) -> Figure:
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.5, 6), sharex=True, layout="constrained")
    for index, depth in enumerate(setting.depths):
        cells = [cell for cell in ours if cell["depth"] == depth]
        apart = 0.2 * (index - (len(setting.depths) - 1) / 2)
        places = [setting.methods.index(cell["method"]) + apart for cell in cells]
        above.plot(places, [cell["recombined"] for cell in cells], "o", label=f"split {depth}", alpha=0.7)
        above.plot(places, [cell["restated"] for cell in cells], "_", color=f"C{index}", alpha=0.7)
        below.plot(places, [100 * cell["own"] for cell in cells], "o", alpha=0.7)
    above.set(ylabel="normalised recombination\n(dash: re-estimated)", title=setting.name)
    below.set_ylabel("own accuracy, %")
    above.axhline(0, color="grey", linewidth=0.8)
    below.set_xticks(range(len(setting.methods)), setting.methods, rotation=20)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    above.legend()
    return figure

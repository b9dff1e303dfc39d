"""The bars that were set before, held against what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.cloning.protocol import ADDED_SHARE, CHANGED_SHARE, CLONING, FINE, KS, POINTS, ROWS, SEEDS
from benchmarks.verdicts import Verdict

Found = list[dict[str, Any]]


def verdicts(world: str, ours: Found) -> Iterator[Verdict]:
    """The goals for a world, by means over seeds."""
    yield _above(ours, 0.0)
    if world in POINTS:
        yield _above(ours, POINTS[world])
    yield _changed(ours)
    yield _added(ours)
    yield _untouched(ours)
    if refused := sum("refused" in cell for cell in ours if cell["row"] == CLONING):
        yield Verdict(
            False, f"no clone of the default is refused ({refused} are; the lines above are about the others)"
        )


def _means(ours: Found, row: str, figure: str) -> dict[int, float] | None:
    """By k; None where a cell of the row is missing."""
    if not _whole(ours, row):
        return None
    of = [cell for cell in ours if cell["row"] == row]
    values = {k: [100 * cell[figure] for cell in of if cell["k"] == k and figure in cell] for k in KS}
    return {k: statistics.mean(value) for k, value in values.items() if value}


def _whole(ours: Found, row: str) -> bool:
    """Whether all cells of a row are there."""
    there = {(cell["k"], cell["seed"]) for cell in ours if cell["row"] == row}
    return there >= {(k, seed) for k in KS for seed in SEEDS}


def _so_far(ours: Found, holds: bool) -> bool | None:
    """A bar that every clone of the default has to meet: one that misses it is enough, one that meets it is not."""
    return holds if not holds or _whole(ours, CLONING) else None


def _above(ours: Found, points: float) -> Verdict:
    rows = [row.name for row in ROWS if row.kind == "tuning"]
    what = (
        f"the mean is above every parameter-tuning baseline's for every k{f' by {points:g} points' if points else ''}"
    )
    cloning, theirs = _means(ours, CLONING, "mean"), {row: _means(ours, row, "mean") for row in rows}
    if cloning is None or None in theirs.values():
        return Verdict(None, what)
    gaps = {(row, k): cloning[k] - of[k] for row, of in theirs.items() if of for k in cloning.keys() & of.keys()}
    (row, k), worst = min(gaps.items(), key=lambda gap: gap[1])
    short = sum(gap <= 0 if not points else gap < points for gap in gaps.values())
    told = f"{what} (smallest difference: {worst:+.1f}, to {row} at k = {k}; short in {short} of {len(gaps)})"
    return Verdict(not short, told)


def _changed(ours: Found) -> Verdict:
    what = f"at most {CHANGED_SHARE:g} of what fine-tuning changes of the original classes' predictions, for every k"
    cloning, fine = _means(ours, CLONING, "changed"), _means(ours, FINE, "changed")
    if not cloning or not fine:
        return Verdict(None, what)
    ratios = {k: cloning[k] / max(fine[k], 1e-9) for k in cloning.keys() & fine.keys()}
    k, worst = max(ratios.items(), key=lambda ratio: ratio[1])
    whole = statistics.mean(cloning.values()) / max(statistics.mean(fine.values()), 1e-9)
    return Verdict(worst <= CHANGED_SHARE, f"{what} (over all k {whole:.2f}; most: {worst:.2f} at k = {k})")


def _added(ours: Found) -> Verdict:
    what = f"at most {100 * ADDED_SHARE:.0f} % more parameters"
    shares = [100 * cell["added"] for cell in ours if cell["row"] == CLONING and "added" in cell]
    if not shares:
        return Verdict(None, what)
    told = f"{what} (mean {statistics.mean(shares):.1f}, most {max(shares):.1f})"
    return Verdict(_so_far(ours, max(shares) <= 100 * ADDED_SHARE), told)


def _untouched(ours: Found) -> Verdict:
    what = "the target is to the bit what it was, under each clone and after it is taken out"
    told = [cell["untouched"] for cell in ours if "untouched" in cell]
    return Verdict(_so_far(ours, all(told)), f"{what} ({sum(told)} of {len(told)} clones)")

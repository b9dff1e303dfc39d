"""The bars that were set before, held against what was measured.

A refused clone has no figures: rows are compared over the pairs of k and seed that both have, and no bar is met by a part of them.
"""

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


def values(ours: Found, row: str, figure: str) -> dict[tuple[int, int], float]:
    """A figure of a row's cells in %, by k and seed; refused ones have none."""
    return {(cell["k"], cell["seed"]): 100 * cell[figure] for cell in ours if cell["row"] == row and figure in cell}


def _pairs(ours: Found, other: str, figure: str) -> dict[int, list[tuple[float, float]]]:
    """Cloning's figure and another row's, of each seed that both have one of; by k."""
    one, two = values(ours, CLONING, figure), values(ours, other, figure)
    both = one.keys() & two.keys()
    found = {k: [(one[k, seed], two[k, seed]) for seed in SEEDS if (k, seed) in both] for k in KS}
    return {k: pairs for k, pairs in found.items() if pairs}


def _whole(ours: Found, *rows: str) -> bool:
    """Whether all cells of these rows are there, if only as refused."""
    there = {(cell["row"], cell["k"], cell["seed"]) for cell in ours}
    return there >= {(row, k, seed) for row in rows for k in KS for seed in SEEDS}


def _of(holds: bool, count: int, every: int) -> tuple[bool | None, str]:
    """What so many of all cells or pairs say of a bar: a part that misses it is enough, a part that meets it is not."""
    if count == every:
        return holds, ""
    return (False if not holds else None), f"; of the {count} of {every} that have figures"


def _above(ours: Found, points: float) -> Verdict:
    rows = [row.name for row in ROWS if row.kind == "tuning"]
    what = (
        f"the mean is above every parameter-tuning baseline's for every k{f' by {points:g} points' if points else ''}"
    )
    pairs = {(row, k): of for row in rows for k, of in _pairs(ours, row, "mean").items()}
    if not pairs or not _whole(ours, CLONING, *rows):
        return Verdict(None, what)
    gaps = {at: statistics.mean(mine - theirs for mine, theirs in of) for at, of in pairs.items()}
    (row, k), worst = min(gaps.items(), key=lambda gap: gap[1])
    short = sum(gap <= 0 if not points else gap < points for gap in gaps.values())
    holds, note = _of(not short, sum(map(len, pairs.values())), len(rows) * len(KS) * len(SEEDS))
    told = f"smallest difference: {worst:+.1f}, to {row} at k = {k}; short in {short} of {len(gaps)}{note}"
    return Verdict(holds, f"{what} ({told})")


def _changed(ours: Found) -> Verdict:
    what = f"at most {CHANGED_SHARE:g} of what fine-tuning changes of the original classes' predictions, for every k"
    pairs = _pairs(ours, FINE, "changed")
    if not pairs or not _whole(ours, CLONING, FINE):
        return Verdict(None, what)
    means = {k: [statistics.mean(side) for side in zip(*of, strict=True)] for k, of in pairs.items()}
    ratios = {k: mine / max(theirs, 1e-9) for k, (mine, theirs) in means.items()}
    k, worst = max(ratios.items(), key=lambda ratio: ratio[1])
    mine, theirs = (statistics.mean(side) for side in zip(*means.values(), strict=True))
    holds, note = _of(worst <= CHANGED_SHARE, sum(map(len, pairs.values())), len(KS) * len(SEEDS))
    told = f"over all k {mine / max(theirs, 1e-9):.2f}; most: {worst:.2f} at k = {k}{note}"
    return Verdict(holds, f"{what} ({told})")


def _so_far(ours: Found, holds: bool) -> tuple[bool | None, str]:
    """A bar that every clone of the default has to meet."""
    there = values(ours, CLONING, "mean").keys() & {(k, seed) for k in KS for seed in SEEDS}
    return _of(holds, len(there), len(KS) * len(SEEDS))


def _added(ours: Found) -> Verdict:
    what = f"at most {100 * ADDED_SHARE:.0f} % more parameters"
    shares = [100 * cell["added"] for cell in ours if cell["row"] == CLONING and "added" in cell]
    if not shares:
        return Verdict(None, what)
    holds, note = _so_far(ours, max(shares) <= 100 * ADDED_SHARE)
    return Verdict(holds, f"{what} (mean {statistics.mean(shares):.1f}, most {max(shares):.1f}{note})")


def _untouched(ours: Found) -> Verdict:
    what = "the target is to the bit what it was, under each clone and after it is taken out"
    told = [cell["untouched"] for cell in ours if "untouched" in cell]
    holds, note = _so_far(ours, all(told))
    return Verdict(holds, f"{what} ({sum(told)} of {len(told)} clones{note})")

"""The bars that were set before, held against what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.generic.protocol import CONSOLIDATED, FIRST, GROWN, SEEDS, TEACHERS, WITHIN_POINTS, WON_BACK, dealt
from benchmarks.transplant.worlds.cifar10 import CLASSES
from benchmarks.verdicts import Verdict

Found = list[dict[str, Any]]


def verdicts(found: Found) -> Iterator[Verdict]:
    """The goals, by means over seeds."""
    yield _near(found)
    yield _won_back(found)
    yield _same(found)


def mean(cell: dict[str, Any]) -> float:
    """Of the categories so far, in %."""
    return 100 * statistics.mean(cell["accuracy"].values())


def of(found: Found, row: str, count: int) -> dict[int, dict[str, Any]]:
    """The cells of a row after so many categories, by seed."""
    return {cell["seed"]: cell for cell in found if (cell["row"], cell["count"]) == (row, count)}


def teachers(found: Found, count: int) -> list[float]:
    """The mean of the teachers of the first so many categories, in %, of each seed."""
    own = of(found, TEACHERS, len(CLASSES))
    return [100 * statistics.mean(cell["accuracy"][c] for c in dealt(seed, count)) for seed, cell in own.items()]


def gap(found: Found) -> dict[int, float]:
    """Points of the teachers' mean over that of the grown network with all categories, by seed."""
    return {seed: statistics.mean(each.values()) for seed, each in differences(found, GROWN, TEACHERS).items()}


def risen(found: Found, row: str = CONSOLIDATED) -> dict[int, float]:
    """Points that a consolidation adds to the grown network's mean, by seed."""
    return {seed: statistics.mean(each.values()) for seed, each in differences(found, GROWN, row).items()}


def differences(found: Found, before: str, after: str) -> dict[int, dict[str, float]]:
    """Points of one row over another one with all categories, by seed and category, in the seed's order."""
    one, other = (of(found, row, len(CLASSES)) for row in (before, after))
    return {
        seed: {c: 100 * (other[seed]["accuracy"][c] - one[seed]["accuracy"][c]) for c in dealt(seed)}
        for seed in sorted(one.keys() & other.keys())
    }


def shares(points: dict[str, float]) -> tuple[float, float]:
    """The mean over the first categories, which came by no transplant, and over the others."""
    values = list(points.values())
    return statistics.mean(values[:FIRST]), statistics.mean(values[FIRST:])


def _whole(by_seed: dict[int, Any]) -> bool:
    return by_seed.keys() >= set(SEEDS)


def _near(found: Found) -> Verdict:
    what = f"after all ten categories, with 0 labels, the mean is within {WITHIN_POINTS:g} points of the teachers'"
    by_seed = gap(found)
    if not _whole(by_seed):
        return Verdict(None, what)
    short = statistics.mean(by_seed.values())
    return Verdict(short <= WITHIN_POINTS, f"{what} ({short:.2f} under it)")


def _won_back(found: Found) -> Verdict:
    what = f"consolidation with 0 labels wins back {100 * WON_BACK:.0f} % of that distance"
    distance, by_seed = gap(found), risen(found)
    if not _whole(distance) or not _whole(by_seed):
        return Verdict(None, what)
    short, won = statistics.mean(distance.values()), statistics.mean(by_seed.values())
    share = f"{100 * won / short:.0f} %" if short > 0 else "there is none"
    return Verdict(won >= WON_BACK * short, f"{what} ({won:+.2f} points of {short:.2f}: {share})")


def _same(found: Found) -> Verdict:
    what = "old cells are bitwise the same throughout: files and outputs"
    changed, looked_at = changes(found), len(_histories(found))
    complete = all(_whole(of(found, CONSOLIDATED, len(CLASSES))) and _whole(of(found, GROWN, n)) for n in _counts())
    told = f"{what} ({looked_at - changed} of {looked_at} cells)"
    return Verdict(False if changed else True if complete else None, told)


def changes(found: Found) -> int:
    """How many cells were not to the bit what they were when they were added, in any later look."""
    return sum(len(set(bits)) > 1 for bits in _histories(found).values())


def _histories(found: Found) -> dict[tuple[int, str], list[str]]:
    histories: dict[tuple[int, str], list[str]] = {}
    for cell in found:
        for category, bits in cell.get("bits", {}).items():
            histories.setdefault((cell["seed"], category), []).append(bits)
    return histories


def _counts() -> range:
    return range(FIRST, len(CLASSES) + 1)

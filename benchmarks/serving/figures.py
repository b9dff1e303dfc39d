"""What is computed from what was seen: percentiles, ratios with their range, the ideal queue, overheads, goals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def percentiles(latencies_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 by the nearest rank: a latency that was seen, none in between."""
    if not latencies_ms:
        return {"p50_ms": float("nan"), "p95_ms": float("nan"), "p99_ms": float("nan")}
    found = np.quantile(np.asarray(latencies_ms), [0.5, 0.95, 0.99], method="inverted_cdf")
    return dict(zip(("p50_ms", "p95_ms", "p99_ms"), (round(float(value), 3) for value in found), strict=True))


@dataclass(frozen=True)
class Spread:
    """A figure that was measured several times."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.least:.3g} to {self.greatest:.3g})"


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Of each round: what hit both halves of a round cancels out."""
    return [a / b for a, b in zip(over, under, strict=True)]


def fifo(arrivals_s: Sequence[float], services_s: Sequence[float]) -> list[float]:
    """Times in the system of an ideal queue: one server, in the order of arrival, never idle while somebody waits."""
    free, spent = 0.0, []
    for arrival, service in zip(arrivals_s, services_s, strict=True):
        free = max(free, arrival) + service
        spent.append(free - arrival)
    return spent


def ideal_tail(arrivals_s: Sequence[float], seen_s: Sequence[float], capacity: float, seed: int = 0) -> float:
    """p99 / p50 of an ideal queue for these arrivals.

    Service times are drawn from those seen one at a time, and scaled so that their mean is what a saturated server needs for a
    request (1 / capacity): a request alone also waits for the wire, which a queue does not.
    """
    random = np.random.default_rng(seed)
    drawn = random.choice(np.asarray(seen_s), len(arrivals_s))
    scaled = drawn / np.mean(seen_s) / capacity
    found = percentiles([1e3 * spent for spent in fifo(arrivals_s, scaled.tolist())])
    return found["p99_ms"] / found["p50_ms"]


def overhead_ms(cpu_s: float, requests: int, forward_ms: float) -> float:
    """CPU milliseconds of a request outside the forward pass."""
    if requests < 1:
        raise ValueError("no request was answered")
    return 1e3 * cpu_s / requests - forward_ms


@dataclass(frozen=True)
class Goal:
    """A line of the table of goals."""

    name: str
    goal: str
    figure: str
    met: bool | None
    """None: not measured."""
    note: str = ""

    @property
    def verdict(self) -> str:
        return {True: "met", False: "**missed**", None: "not measured"}[self.met]


def at_least(name: str, values: Sequence[float], limit: float, note: str = "") -> Goal:
    """A goal for the median of the rounds."""
    spread = Spread.of(values)
    return Goal(name, f"≥ {limit:g}", str(spread), spread.median >= limit, note)


def at_most(name: str, values: Sequence[float], limit: float, note: str = "") -> Goal:
    spread = Spread.of(values)
    return Goal(name, f"≤ {limit:g}", str(spread), spread.median <= limit, note)


def both(first: Goal, second: Goal) -> Goal:
    """Met where both are."""
    met = None if first.met is None or second.met is None else first.met and second.met
    goal, figure = (f"{a}; {second.name} {b}" for a, b in ((first.goal, second.goal), (first.figure, second.figure)))
    return Goal(first.name, goal, figure, met, "; ".join(note for note in (first.note, second.note) if note))


def missing(name: str, goal: str, cell: dict[str, Any] | None) -> Goal:
    reason = (cell or {}).get("reason", "this cell was not run")
    return Goal(name, goal, "-", None, str(reason))

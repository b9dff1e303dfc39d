"""How long a form takes for some rows at once, and so how many are worth running together.

Small nets gain from company, as calling them costs something. Large ones do not, where a row alone keeps the cores busy: there,
whoever came first would only wait for the others. Measured when a form is made, and kept in its file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping

Pace = Mapping[int, float]
"""Seconds a row by rows at once."""
SIZES = (1, 2, 8)
REPEATS = 3
GAIN = 0.03
"""Less than this share of the time is not worth waiting for."""
KEY = "graftery.row_s"
"""Of the pace in an ONNX file's metadata."""


def measured(run: Callable[[int], object]) -> dict[int, float]:
    """The pace of a form.

    Args:
        run: runs it on that many rows.
    """
    pace = {}
    for rows in SIZES:
        run(rows)
        pace[rows] = min(_seconds(run, rows) for _ in range(REPEATS)) / rows
    return pace


def _seconds(run: Callable[[int], object], rows: int) -> float:
    began = time.perf_counter()
    run(rows)
    return time.perf_counter() - began


def written(pace: Pace) -> str:
    return json.dumps({str(rows): seconds for rows, seconds in pace.items()})


def read(text: str | None) -> dict[int, float] | None:
    """A pace that was `written`; None where there is none, or not for these sizes."""
    found = {int(rows): float(seconds) for rows, seconds in json.loads(text or "{}").items()}
    return found if set(found) == set(SIZES) else None


def worthwhile(paces: Iterable[Pace | None], most: int) -> int:
    """How many rows to run together at most.

    Args:
        paces: of all forms that they run through; None: of one it is not known.
        most: where the largest size that was measured is still the best.
    """
    known = list(paces)
    if not known or any(pace is None for pace in known):
        return most
    row_s = {rows: sum(pace[rows] for pace in known if pace is not None) for rows in SIZES}
    best = SIZES[0]
    for rows in SIZES[1:]:
        if row_s[rows] < (1 - GAIN) * row_s[best]:
            best = rows
    return most if best == SIZES[-1] else min(best, most)

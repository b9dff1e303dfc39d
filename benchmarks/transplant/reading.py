"""What was measured, as the page and the plots read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.transplant.protocol import key_of
from graftery.spec.plan import TEACHING

Cell = dict[str, Any]
OLDER = "†"
"""Beside what is of a cell of another protocol than the one of now."""
Pair = tuple[str, int, tuple[tuple[str, str], ...]]


def belongs(cell: Cell, name: str) -> bool:
    """Whether a cell has the figures of a row; teacher and identity are in one."""
    return bool(cell["row"] == ("references" if name in ("teacher", "identity") else name))


def value(cell: Cell, name: str, metric: str) -> float:
    """A metric of a row."""
    metrics = cell["metrics"][name] if cell["row"] == "references" else cell["metrics"]
    return float(metrics[metric])


def pair_of(cell: Cell) -> Pair:
    """What two cells have in common that may be compared one by one: target, seed and nets."""
    return cell["target"], cell["seed"], tuple(sorted((cell.get("nets") or {}).items()))


def marked(text: str, cells: Iterable[Cell], older: frozenset[str]) -> str:
    """The text, with a mark if any of its cells is of another protocol."""
    return f"{text} {OLDER}" if any(key_of(cell) in older for cell in cells) else text


def agreeing(cells: list[Cell], metric: str) -> list[tuple[float, float, bool]]:
    """Of every run that asked the teacher: kappa on fresh noise, metric over that of its teacher, and whether it had labels."""
    teacher = {pair_of(c): value(c, "teacher", metric) for c in cells if c["row"] == "references"}
    runs = [c for c in cells if c.get("kappa") is not None and TEACHING & c["objectives"].keys()]
    return [
        (c["kappa"], value(c, c["row"], metric) / teacher[pair_of(c)], "direct" in c["objectives"])
        for c in runs
        if pair_of(c) in teacher
    ]

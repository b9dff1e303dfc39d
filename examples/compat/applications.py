"""The applications by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from examples.compat import adaptation, architectures, transfer, transplants
from examples.compat.worlds import World


@dataclass(frozen=True)
class Application:
    """What is measured.

    Args:
        protocol: fixed before; the document has it.
        rows: what a cell has an accuracy for.
        cells: of a world and a seed.
        remark: what the figures of all seeds say beside the table, by case.
    """

    name: str
    title: str
    protocol: str
    rows: tuple[str, ...]
    cells: Callable[[World, int], Iterator[dict[str, Any]]]
    remark: Callable[[dict[str, list[dict[str, Any]]]], str] | None = None


def _of(room: ModuleType) -> Application:
    return Application(
        room.NAME, room.TITLE, (room.__doc__ or "").strip(), room.ROWS, room.cells, getattr(room, "remark", None)
    )


APPLICATIONS = {each.name: each for each in map(_of, (adaptation, architectures, transfer, transplants))}


def by_case(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The cells of all seeds, by what they are of."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for cell in run["cells"]:
            found.setdefault(cell["case"], []).append(cell)
    return found

"""The goals of the registry, judged from the cells: a line each, in the order in which they were set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.registry.listeners import LISTENERS
from benchmarks.registry.metadata import OPERATIONS as METADATA
from benchmarks.registry.scaling import MANY
from benchmarks.registry.scaling import OPERATIONS as SCALING
from benchmarks.registry.upload import SIZES_MIB
from benchmarks.serving.figures import Goal, at_least, at_most, missing, ratios

Cell = dict[str, Any]
UPLOAD, METADATA_OVER, SCALING_UNDER = 0.8, 3, 2
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def judged(cells: dict[str, Cell]) -> list[Goal]:
    """All goals; those whose cell is not there say so, with the reason."""
    return [*upload(cells), *metadata(cells), *scaling(cells), *listeners(cells)]


def measured(cells: dict[str, Cell], name: str) -> Cell | None:
    cell = cells.get(name)
    return None if cell is None or "reason" in cell else cell


def upload(cells: dict[str, Cell]) -> list[Goal]:
    cell = measured(cells, "upload")
    found = []
    for size in map(str, SIZES_MIB):
        title = f"1. Upload of {size} MiB, the transfer: MiB/s over the floor's"
        if cell is None:
            found.append(missing(title, f"≥ {UPLOAD:g}", cells.get("upload")))
            continue
        rounds = cell[size]
        whole = [one["whole"] for one in rounds]
        note = f"ours {_middle([one['transfer'] for one in rounds]):.0f} MiB/s, checked and published {_middle(whole):.0f} MiB/s"
        found.append(at_least(title, column(rounds, "transfer", "transfer_floor"), UPLOAD, note))
    return found


def column(rounds: Sequence[Cell], over: str, under: str) -> list[float]:
    return ratios([one[over] for one in rounds], [one[under] for one in rounds])


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def metadata(cells: dict[str, Cell]) -> list[Goal]:
    cell = measured(cells, "metadata")
    found = []
    for name, operation in METADATA.items():
        title = f"2. Requests a second over MLflow's: {operation.title}"
        if cell is None:
            found.append(missing(title, f"≥ {METADATA_OVER:g}", cells.get("metadata")))
            continue
        rounds = cell["operations"][name]
        over = ratios([one["ours"]["per_s"] for one in rounds], [one["theirs"]["per_s"] for one in rounds])
        found.append(at_least(title, over, METADATA_OVER))
    return found


def scaling(cells: dict[str, Cell]) -> list[Goal]:
    found = []
    for name, database in DATABASES.items():
        cell = measured(cells, name)
        for key, operation in SCALING.items():
            if operation.kind == "search":
                continue  # neither list nor resolve: told, not asked for
            title = f"3. p99 at {MANY} versions over 1000, {database}: {operation.title}"
            if cell is None:
                found.append(missing(title, f"≤ {SCALING_UNDER:g}", cells.get(name)))
                continue
            rounds = cell["operations"][key]
            over = ratios([one["many"]["p99_ms"] for one in rounds], [one["few"]["p99_ms"] for one in rounds])
            note = "" if cell["many"] >= MANY else f"{cell['many']} versions"
            found.append(at_most(title, over, SCALING_UNDER, note))
    return found


def listeners(cells: dict[str, Cell]) -> list[Goal]:
    cell = measured(cells, "listeners")
    title = f"4. {LISTENERS} listeners of live events: the share that got every event"
    if cell is None:
        return [missing(title, "= 1", cells.get("listeners"))]
    shares = [one["complete"] / cell["listeners"] for spread in ("one", "fifty", "each") for one in cell[spread]]
    note = "" if cell["listeners"] >= LISTENERS else f"{cell['listeners']} listeners"
    return [at_least(title, [min(shares)], 1, note)]

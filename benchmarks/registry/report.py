"""The results as a page: goals first, then what each rests on, with versions and the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.registry import peer
from benchmarks.registry.goals import DATABASES, column, judged, measured
from benchmarks.registry.metadata import CONNECTIONS
from benchmarks.registry.metadata import OPERATIONS as METADATA
from benchmarks.registry.plots import draw
from benchmarks.registry.scaling import OPERATIONS as SCALING
from benchmarks.registry.upload import SIZES_MIB
from benchmarks.serving.figures import Spread
from benchmarks.serving.kept import Kept
from benchmarks.serving.report import table

Cell = dict[str, Any]
HOW = f"""The client, PostgreSQL and Redis have one core, whoever is measured the other; everything goes over loopback. What is \
compared is measured in turns, a round after the other; ratios are of neighbours in time: median of the rounds, in brackets the least and \
the greatest. Who is not asked is frozen. The load is a closed loop over kept connections, and each status is looked at, as is the body of one \
answer in 16. PostgreSQL runs with fsync, synchronous_commit and full_page_writes on, SQLite with synchronous=FULL, on the same disk.

- *Uploads.* The floor is a program that reads a socket, hashes, writes and makes durable (benchmarks/registry/floor.py); the client is the same. \
*Transfer*: a body whose Repr-Digest is wrong, which is refused once all of it is hashed and durable: receiving alone. *Whole*: a new version, the file \
checked in a child process and published, beside a floor that renames. *Check and rows*: the same published again by `?digest=`: no byte is sent.
- *Metadata.* One server process each, {CONNECTIONS} connections, the same names, versions and aliases in a database each of one PostgreSQL. \
MLflow is measured with each of its settings once, and the faster one is kept. Our answers hold the module's manifest and what the verifier found, which \
MLflow has no notion of; a change of ours also writes the alias' history and the audit log.
- *Many versions.* Rows are written in bulk through the catalogue's tables (benchmarks/registry/seed.py: ten versions a name, and one name with a tenth of \
all; it is in each page of the newest names, and a tenth of all requests are about it). Two connections.
- *Listeners.* One API process; events are committed one by one, and a listener's delay counts from the commit. The API looks every 250 ms, so the median \
cannot be under half of that. Memory: what the API's processes grew by, over the listeners.
- *Jobs.* A collection that only counts, in an empty store. *Claimed and finished*: two transactions a job, by one process that does nothing else. \
*At once*: 200 jobs that real workers (`python -m worker`) do; *taken after*: from the commit of a job that comes alone to its claim. Workers share the cores."""

WHY = """\
- *1, uploads.* The floor reads into one buffer and never gives it away. In our server each piece of a body is made anew by the event loop, goes through \
the HTTP parser and the queue between protocol and application, and is hashed and written in another thread; of a small file, routing, checks of headers \
and the answer are most of the time. Needed: a reader of bodies that bypasses uvicorn's queue.
- *2, metadata.* Both servers are of the same kind: Python, SQLAlchemy's ORM, one process behind the global lock. Ours reads a manifest and facts with each \
version, checks and writes them out again, and asks PostgreSQL for the name, the version and the aliases one after the other, in a transaction of its own; \
a change also writes history and audit log and locks the name. Needed: one statement for a reference, and answers made of the stored JSON without its \
models."""


def write(kept: Kept, folder: Path) -> None:
    """Write registry.md and the plots, if anything was measured."""
    if not kept.known["cells"]:
        return
    folder.mkdir(parents=True, exist_ok=True)
    plots = draw(kept.known["cells"], folder)
    (folder / "registry.md").write_text(page(kept.known, plots))


def page(known: dict[str, Any], plots: Sequence[tuple[str, str]] = ()) -> str:
    """The document."""
    cells, on = known["cells"], known["machine"]
    goals = [(goal.name, goal.goal, goal.figure, goal.verdict, goal.note) for goal in judged(cells)]
    parts = [
        "# The registry under load",
        f"Written by `{known['command']}`; every run is in registry.json.",
        table(("what", "goal", "figure", "", "note"), goals),
        "## How it was measured",
        HOW,
        f"{on['cores']} cores ({on['model']}, {on['processor']}), Linux {on['kernel']}; load average at the end {on['load'][0]}: other work shows in the ranges.",
        *(f"![{title}]({name})" for name, title in plots),
        *_upload(measured(cells, "upload")),
        *_metadata(measured(cells, "metadata")),
        *(part for name, title in DATABASES.items() for part in _scaling(title, measured(cells, name))),
        *_listeners(measured(cells, "listeners")),
        *_jobs(measured(cells, "jobs")),
        *(["## Where a goal is missed, and why", WHY] if WHY else []),
        *_versions(known),
    ]
    return "\n\n".join(parts) + "\n"


def _spread(runs: Iterable[Cell], *keys: str) -> str:
    values = []
    for run in runs:
        value: Any = run
        for key in keys:
            value = value[key]
        values.append(value)
    return str(Spread.of(values))


def _upload(cell: Cell | None) -> list[str]:
    if cell is None:
        return []
    lines = []
    for size in map(str, SIZES_MIB):
        rounds = cell[size]
        for name in ("transfer", "whole"):
            over = Spread.of(column(rounds, name, f"{name}_floor"))
            lines.append((f"{size} MiB, {name}", _spread(rounds, name), _spread(rounds, f"{name}_floor"), over))
        lines.append((f"{size} MiB, check and rows alone, s", _spread(rounds, "check_s"), "", ""))
    return ["## Uploads", table(("", "ours, MiB/s", "floor, MiB/s", "ours over it"), lines)]


def _metadata(cell: Cell | None) -> list[str]:
    if cell is None:
        return []
    lines = []
    for name, operation in METADATA.items():
        rounds = cell["operations"][name]
        over = Spread.of([one["ours"]["per_s"] / one["theirs"]["per_s"] for one in rounds])
        both = [
            _spread(rounds, whose, figure) for figure in ("per_s", "p99_ms", "cpu_ms") for whose in ("ours", "theirs")
        ]
        lines.append((operation.title, *both, over))
    head = (
        "",
        "ours/s",
        "MLflow/s",
        "ours p99, ms",
        "MLflow p99, ms",
        "ours CPU, ms",
        "MLflow CPU, ms",
        "ours over it",
    )
    tried = [(one["setting"], f"{one['per_s']:.0f}", f"{one['p99_ms']:.0f}") for one in cell["screened"]]
    return [
        "## Metadata beside MLflow",
        f"{cell['versions']} versions each.",
        table(head, lines),
        "MLflow's settings, the one that was kept first:",
        table(("setting", "requests/s", "p99, ms"), tried),
    ]


def _scaling(title: str, cell: Cell | None) -> list[str]:
    if cell is None:
        return []
    lines = []
    for name, operation in SCALING.items():
        rounds = cell["operations"][name]
        over = Spread.of([one["many"]["p99_ms"] / one["few"]["p99_ms"] for one in rounds])
        figures = [_spread(rounds, which, figure) for figure in ("p50_ms", "p99_ms") for which in ("few", "many")]
        lines.append((operation.title, *figures, over))
    few, many = cell["few"], cell["many"]
    head = ("", f"p50 at {few}, ms", f"p50 at {many}, ms", f"p99 at {few}, ms", f"p99 at {many}, ms", "p99 over it")
    return [f"## Many versions, {title}", table(head, lines)]


def _listeners(cell: Cell | None) -> list[str]:
    if cell is None:
        return []
    lines = []
    for spread in ("one", "fifty", "each"):
        runs = cell[spread]
        complete = min(run["complete"] for run in runs)
        figures = [_spread(runs, whose, f"{p}_ms") for whose in ("every", "last") for p in ("p50", "p99")]
        lines.append((runs[0]["jobs"], f"{complete} of {cell['listeners']}", *figures, _spread(runs, "kib")))
    head = ("jobs", "got everything", "delay p50, ms", "p99", "to the last listener p50, ms", "p99", "KiB a listener")
    return ["## Live events", table(head, lines)]


def _jobs(cell: Cell | None) -> list[str]:
    if cell is None:
        return []
    lines: list[Sequence[object]] = []
    for name, title in (("postgresql", "PostgreSQL and Redis"), ("sqlite", "SQLite, embedded")):
        one = cell[name]
        for backlog, runs in one["claims"].items():
            lines.append(
                (title, f"claimed and finished, {backlog} queued", _spread(runs, "per_s"), _spread(runs, "p99_ms"))
            )
        for count, runs in one["workers"].items():
            taken = f"taken after p50 {_spread(runs, 'taken', 'p50_ms')}"
            lines.append((title, f"at once, {count} workers", _spread(runs, "per_s"), taken))
        lines.append((title, "submitted over HTTP", _spread(one["submit"], "per_s"), _spread(one["submit"], "p99_ms")))
    return ["## Jobs", table(("", "", "jobs/s", "p99, ms"), lines)]


def _versions(known: dict[str, Any]) -> list[str]:
    lines = [
        (name, ", ".join(f"{package} {version}" for package, version in found.items()))
        for name, found in known["versions"].items()
    ]
    tried = "; ".join(setting.title for setting in peer.SETTINGS)
    left = [
        f"- {name} was left out: {' '.join(why.replace('|', '/').split())}" for name, why in known["left_out"].items()
    ]
    return ["## Versions", table(("", "versions"), lines), f"MLflow was tried with: {tried}.", *left]

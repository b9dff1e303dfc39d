"""The results as a page: goals first, then what each rests on, with settings, versions and the machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.contenders import ALL
from benchmarks.serving.figures import Spread
from benchmarks.serving.goals import judged, overheads
from benchmarks.serving.kept import Kept
from benchmarks.serving.plots import draw

Cell = dict[str, Any]
TITLES = {
    "json32": "3x32x32 in JSON",
    "json224": "3x224x224 in JSON",
    "raw": "3x224x224, our binary form beside raw bytes",
    "json": "3x224x224, our binary form beside JSON",
    "jpeg224": "3x224x224 as JPEG",
    "mixed8": "Eight categories over one task module, beside eight whole nets",
}
HOW = """Server and load generator have a core each, every server the same one; one thread a net. Requests go over loopback. \
*Saturated*: 32 connections, each with its next request as soon as it has its answer. *At 70 %*: Poisson arrivals at 70 % of the server's own \
saturation, latency from the drawn arrival, whether or not a connection was free. Every peer is screened once with each setting; the setting with \
the highest throughput is kept, and the two best peers are measured in turns with ours, ours before each. Ratios are of \
neighbours in time: median of the rounds, in brackets the least and the greatest. Whoever is not asked is frozen (Ray Serve idles). Each status is looked at \
and one answer in 16 compared with the right numbers. Peers run eager torch, and the whole net as one ONNX file that \
torch.onnx exported. Weights are random and fixed.

- Overhead is measured on a net that does next to nothing (an average pool and a linear layer on 3x32x32): CPU time of the \
server's processes over a whole run, by request, less that of the bare net. An idle server's own CPU time counts at 40 requests a second.
- The ideal queue serves the same number of arrivals a second one at a time, first come, first served; its service times are drawn from \
requests that were sent one by one, and scaled to the mean that the saturated throughput allows.
- Bare cost is that of the faster of eager torch and onnxruntime, in turns with the server, on its core.
- Memory is PSS of all processes of a server, pages that several share counted once. Models are loaded, and ready, before the first request."""

WHY = """\
- *1, 3x32x32 in JSON.* HTTP, reading and the net together are less than half of a request's CPU time (below). The rest is Python: tasks and \
futures of the event loop, the hop to the engine's thread and back, checks, headers, figures, many small parts. Twice the best peer would need \
a transport that is not Python, or an interpreter without a global lock.
- *2, 3x224x224.* The forward pass is nearly all of the time, in our server and in the peers': five times the best JSON is out of reach for \
any server with this net. Behind a handler of raw bytes we lose what merging rows costs (they are copied together, and gain little for a net of this \
size), and what f and gS as two sessions cost beside a fused net.
- *4, memory.* Our process holds torch, for modules that have no faster form yet; a peer that runs ONNX files alone does not. Needed: to load torch \
only where a module has to run eager.
- *5, 3x32x32.* One HTTP request costs more than all of this net.
- *6, batches of 32.* Beside HTTP and the net, most of the rest goes with 400 KB a request through one core's caches, between the event loop and the net.
- *7, first requests.* A new connection, its objects and branches of code that nobody ran yet; it is near three times from run to run."""


def write(kept: Kept, folder: Path) -> None:
    """Write serving.md and the plots, if anything was measured."""
    cells = kept.known["cells"]
    if not cells:
        return
    folder.mkdir(parents=True, exist_ok=True)
    plots = draw(cells, folder)
    (folder / "serving.md").write_text(page(kept.known, plots))


def page(known: dict[str, Any], plots: Sequence[tuple[str, str]] = ()) -> str:
    """The document."""
    cells, on = known["cells"], known["machine"]
    parts = [
        "# Inference beside other servers",
        f"Written by `{known['command']}`; every run is in serving.json.",
        _goals(cells),
        "## How it was measured",
        HOW,
        f"{on['cores']} cores ({on['model']}, {on['processor']}), Linux {on['kernel']}; load average at the end {on['load'][0]}: other work shows in the ranges.",
        *(f"![{title}]({name})" for name, title in plots),
        *(part for name, cell in _contests(cells) for part in _contest(name, cell)),
        *_overheads(cells.get("overhead", {})),
        *_alone(cells),
        *_shares(cells),
        "## Where a goal is missed, and why",
        WHY,
        *_settings(known),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(field) for field in row) + " |" for row in rows)


def _goals(cells: dict[str, Cell]) -> str:
    lines = [(goal.name, goal.goal, goal.figure, goal.verdict, goal.note) for goal in judged(cells)]
    return table(("what", "goal", "figure", "", "note"), lines)


def _contests(cells: dict[str, Cell]) -> Iterable[tuple[str, Cell]]:
    for name in ("json32", "json224", "jpeg224", "mixed8"):
        if "rounds" in cells.get(name, {}):
            yield name, cells[name]
    for name in ("raw", "json"):
        if name in cells.get("binary224", {}):
            yield name, cells["binary224"][name]


def _contest(name: str, cell: Cell) -> list[str]:
    parts = [
        f"## {TITLES[name]}",
        table(("server", "requests/s", "p50, ms", "p95, ms", "p99, ms", "CPU, ms", "ours over it"), _rounds(cell)),
    ]
    if cell.get("tails"):
        head = ("at 70 %", "requests/s", "p50, ms", "p95, ms", "p99, ms", "unanswered")
        parts.append(table(head, _tails(cell["tails"])))
    if cell.get("screened"):
        parts.append("Screening, once each, in order of throughput:")
        parts.append(table(("peer", "setting", "requests/s", "p99, ms", "PSS, MiB"), _screened(cell)))
    parts += [f"- {key} was not measured: {_plain(reason)}" for key, reason in cell.get("failed", {}).items()]
    return parts


def _rounds(cell: Cell) -> Iterable[Sequence[object]]:
    rounds = cell["rounds"]
    mine = [pair["ours"] for one in rounds for pair in one.values()]
    yield ("Graftery", *_figures(mine), "")
    for key in rounds[0]:
        theirs = [one[key]["peer"] for one in rounds if "peer" in one[key]]
        if theirs:
            over = [one[key]["ours"]["per_s"] / one[key]["peer"]["per_s"] for one in rounds]
            yield (_title(key), *_figures(theirs), Spread.of(over))


def _figures(runs: Sequence[Cell]) -> list[str]:
    return [_spread(runs, figure) for figure in ("per_s", "p50_ms", "p95_ms", "p99_ms", "cpu_ms")]


def _spread(runs: Sequence[Cell], figure: str) -> str:
    return str(Spread.of([run[figure] for run in runs]))


def _tails(tails: Sequence[Cell]) -> Iterable[Sequence[object]]:
    for key in tails[0]:
        runs = [one[key] for one in tails]
        figures = [_spread(runs, figure) for figure in ("rate", "p50_ms", "p95_ms", "p99_ms")]
        yield (_title(key), *figures, sum(run["unanswered"] for run in runs))


def _screened(cell: Cell) -> Iterable[Sequence[object]]:
    for run in sorted(cell["screened"], key=lambda run: -run["per_s"]):
        mark = " *" if cell.get("chosen", {}).get(run["peer"]) == run["setting"] else ""
        memory = run.get("memory", {}).get("pss_mib", "")
        yield (_title(run["peer"]), run["setting"] + mark, f"{run['per_s']:.1f}", f"{run['p99_ms']:.1f}", memory)


def _overheads(cell: Cell) -> list[str]:
    if "rounds" not in cell:
        return []
    busy, easy = overheads(cell, "busy"), overheads(cell, "easy")
    lines = [
        (_title(key), Spread.of(busy[key]), Spread.of(easy[key]))
        for key in sorted(busy, key=lambda key: statistics.median(busy[key]))
    ]
    return ["## CPU a request outside the forward pass, ms", table(("server", "saturated", "40 requests/s"), lines)]


def _alone(cells: dict[str, Cell]) -> list[str]:
    """Cells in which ours is measured against what it is made of."""
    lines: list[Sequence[object]] = []
    for net in ("small", "adapted"):
        rounds = cells.get("trio", {}).get(net, [])
        lines += _beside(f"three tasks, {net}: median, ms", rounds, lambda one: one["asked"]["p50_ms"], 1.0)
    rounds = cells.get("batch32", {}).get("rounds", [])
    lines += _beside("batches of 32: ms a batch", rounds, lambda one: 32e3 / one["rows_per_s"], 1.0)
    parts = [table(("", "asked", "bare torch", "bare onnx"), lines)] if lines else []
    tails = cells.get("tail", {})
    if "rounds" in tails:
        seen, ideal = (Spread.of([one[name] for one in tails["rounds"]]) for name in ("ratio", "ideal"))
        parts.append(f"p99/p50 at 70 % of saturation {seen}; of the ideal queue {ideal}.")
        first = [(one["batch"], f"{one['first_ms']:.2f}", f"{one['median_ms']:.2f}") for one in tails["first"]]
        parts.append(table(("batch", "first request, ms", "median of later ones, ms"), first))
    return ["## Beside the bare forward pass and the ideal queue", *parts] if parts else []


def _shares(cells: dict[str, Cell]) -> list[str]:
    names = ("asked", "http", "read", "net", "rest")
    lines = [
        (form, *(f"{statistics.median(one[name] for one in rounds):.3f}" for name in names))
        for form, rounds in cells.get("shares", {}).items()
        if isinstance(rounds, list)
    ]
    if not lines:
        return []
    head = ("request, rows", "all", "HTTP alone", "reading alone", "the net alone", "the rest")
    text = (
        "CPU milliseconds of our server a request, saturated, and what its parts cost alone on the same core: a server that reads"
        " the same request and answers without looking at it; our reader on its body, in a loop; the fused ONNX file on batches as the"
        " queue makes them. The rest is queue, lookup, figures, answer, and the parts being in each other's way."
    )
    return ["## Where the time of a request goes", text, table(head, lines)]


def _beside(title: str, rounds: Sequence[Cell], asked: Any, scale: float) -> list[Sequence[object]]:
    if not rounds:
        return []
    bare = [Spread.of([scale * one["bare"][engine]["median_ms"] for one in rounds]) for engine in ("torch", "onnx")]
    return [(title, Spread.of([asked(one) for one in rounds]), *bare)]


def _settings(known: dict[str, Any]) -> list[str]:
    tried = [(peer.title, "; ".join(setting.title for setting in peer.settings)) for peer in ALL.values()]
    versions = [
        (name, ", ".join(f"{package} {version}" for package, version in found.items()))
        for name, found in known["versions"].items()
    ]
    parts = [
        "## Settings and versions",
        "An asterisk above marks the setting that was taken.",
        table(("peer", "settings that were tried"), tried),
    ]
    parts.append(table(("environment", "versions"), versions))
    return parts + [f"- {name} was left out: {_plain(reason)}" for name, reason in known["left_out"].items()]


def _title(key: str) -> str:
    name, _, engine = key.partition("/")
    if name in ALL:
        return f"{ALL[name].title}, {engine}"
    return key.replace("ours", "Graftery")


def _plain(text: str) -> str:
    """For a line of Markdown."""
    return " ".join(text.replace("|", "/").split())

"""The goals, judged from the cells: a line each, in the order in which they were set."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.serving.contest import against
from benchmarks.serving.figures import Goal, at_least, at_most, both, missing, overhead_ms, ratios

Cells = dict[str, dict[str, Any]]
Cell = dict[str, Any]


def judged(cells: Cells) -> list[Goal]:
    """All goals; those whose cell is not there say so, with the reason."""
    return [goal for judge in JUDGES for goal in judge(cells)]


def _of(cells: Cells, name: str) -> Cell | None:
    """A cell that was measured, with a peer beside ours where it has any."""
    cell = cells.get(name)
    if cell is None or "reason" in cell:
        return None
    contests = [cell["raw"], cell["json"]] if name == "binary224" else [cell] if "screened" in cell else []
    return cell if all(_has_peers(contest) for contest in contests) else None


def _has_peers(cell: Cell) -> bool:
    """A round names its peer, or has ours beside one."""
    rounds = cell["rounds"]
    return bool(rounds) and ("peer" in rounds[0] or any("peer" in pair for pair in rounds[0].values()))


def _best(cell: Cell) -> str:
    """The peer with the highest throughput in the rounds: the one to beat."""
    peers = [key for key, pair in cell["rounds"][0].items() if "peer" in pair]
    return max(peers, key=lambda key: statistics.median(one[key]["peer"]["per_s"] for one in cell["rounds"]))


def json32(cells: Cells) -> list[Goal]:
    title = "1. 3x32x32 in JSON: throughput over the best peer's"
    cell = _of(cells, "json32")
    if cell is None:
        return [missing(title, "≥ 2", cells.get("json32"))]
    best = _best(cell)
    full = at_most("p99 saturated, over the peer's", against(cell, best, "p99_ms"), 1)
    mine = [one["ours at the best peer's load"]["p99_ms"] for one in cell["tails"]]
    theirs = [one[best]["p99_ms"] for one in cell["tails"]]
    open_loop = at_most("p99 at the peer's 70 %, over the peer's", ratios(mine, theirs), 1)
    return [both(both(at_least(title, against(cell, best), 2, f"best peer: {best}"), full), open_loop)]


def binary224(cells: Cells) -> list[Goal]:
    titles = ("2. 3x224x224: binary over the best JSON", "2. 3x224x224: binary over raw bytes by hand")
    cell = _of(cells, "binary224")
    if cell is None:
        return [
            missing(title, goal, cells.get("binary224")) for title, goal in zip(titles, ("≥ 5", "≥ 1"), strict=True)
        ]
    text, raw = _best(cell["json"]), _best(cell["raw"])
    return [
        at_least(titles[0], against(cell["json"], text), 5, f"best JSON: {text}"),
        at_least(titles[1], against(cell["raw"], raw), 1, f"best raw handler: {raw}"),
    ]


def jpeg224(cells: Cells) -> list[Goal]:
    title = "2. 3x224x224 as JPEG: throughput over the best peer's"
    cell = _of(cells, "jpeg224")
    if cell is None:
        return [missing(title, "≥ 1", cells.get("jpeg224"))]
    best = _best(cell)
    mine = statistics.median(one[best]["ours"]["cpu_ms"] for one in cell["rounds"])
    share = 100 * cell["decode"]["cpu_ms"] / mine
    note = f"best peer: {best}; decoding by Pillow alone takes {cell['decode']['cpu_ms']:.2f} ms, {share:.0f} % of our CPU time"
    return [at_least(title, against(cell, best), 1, note)]


def overhead(cells: Cells) -> list[Goal]:
    cell = _of(cells, "overhead")
    titles = {
        "busy": "3. CPU outside the forward pass, saturated",
        "easy": "3. CPU outside the forward pass, 40 requests/s",
    }
    if cell is None:
        return [missing(title, "< 1 of the least peer's", cells.get("overhead")) for title in titles.values()]
    return [_overhead(cell, load, title) for load, title in titles.items()]


def _overhead(cell: Cell, load: str, title: str) -> Goal:
    found = overheads(cell, load)
    least = min((key for key in found if key != "ours"), key=lambda key: statistics.median(found[key]))
    rounds = [one for one in cell["rounds"] if one["peer"] == least]
    forward = cell["forward"]["cpu_ms"]
    pairs = [[one[who][load]["cpu_ms"] - forward for who in ("ours", "theirs")] for one in rounds]
    note = f"least peer: {least}; ours {statistics.median(found['ours']):.3f} ms, theirs {statistics.median(found[least]):.3f} ms"
    return at_most(title + ", over the least peer's", [mine / theirs for mine, theirs in pairs], 1, note)


def overheads(cell: Cell, load: str) -> dict[str, list[float]]:
    """CPU milliseconds a request outside the forward pass, of ours and each peer, round by round."""
    found: dict[str, list[float]] = {}
    for one in cell["rounds"]:
        for who, key in (("ours", "ours"), ("theirs", one["peer"])):
            run = one[who][load]
            value = overhead_ms(run["cpu_ms"] * run["answered"] / 1e3, run["answered"], cell["forward"]["cpu_ms"])
            found.setdefault(key, []).append(value)
    return found


def mixed8(cells: Cells) -> list[Goal]:
    titles = (
        "4. Eight categories over one task module, over one category",
        "4. The same, over the best peer with eight nets",
        "4. Its memory (PSS), over that peer's",
    )
    cell = _of(cells, "mixed8")
    if cell is None:
        return [missing(t, g, cells.get("mixed8")) for t, g in zip(titles, ("≥ 0.8", "≥ 1", "≤ 0.5"), strict=True)]
    alone = ratios([one["mixed"]["per_s"] for one in cell["alone"]], [one["one"]["per_s"] for one in cell["alone"]])
    best = _best(cell)
    memory = {key: found["pss_mib"] for key, found in cell["memory"].items()}
    note = f"ours {memory['ours']:.0f} MiB in all, {best} {memory[best]:.0f} MiB"
    return [
        at_least(titles[0], alone, 0.8),
        at_least(titles[1], against(cell, best), 1, f"best peer: {best}"),
        at_most(titles[2], [memory["ours"] / memory[best]], 0.5, note),
    ]


def trio(cells: Cells) -> list[Goal]:
    title = "5. One image through three tasks, over the bare f + 3 (h + g)"
    cell = _of(cells, "trio")
    if cell is None:
        return [missing(title, "≤ 1.1", cells.get("trio"))]
    found = []
    for net, size in (("small", "3x32x32"), ("adapted", "3x224x224")):
        costs = [min(cost["median_ms"] for cost in one["bare"].values()) for one in cell[net]]
        found.append(at_most(f"{title}, {size}", ratios([one["asked"]["p50_ms"] for one in cell[net]], costs), 1.1))
    return found


def batch32(cells: Cells) -> list[Goal]:
    title = "6. Saturated with batches of 32, over the bare forward pass"
    cell = _of(cells, "batch32")
    if cell is None:
        return [missing(title, "≥ 0.85", cells.get("batch32"))]
    bare = [max(32e3 / cost["median_ms"] for cost in one["bare"].values()) for one in cell["rounds"]]
    return [at_least(title, ratios([one["rows_per_s"] for one in cell["rounds"]], bare), 0.85)]


def tail(cells: Cells) -> list[Goal]:
    titles = (
        "7. p99/p50 at 70 % of saturation, over an ideal queue's",
        "7. First request, over later ones of its batch",
    )
    cell = _of(cells, "tail")
    if cell is None:
        return [missing(t, g, cells.get("tail")) for t, g in zip(titles, ("≤ 1.2", "≤ 3"), strict=True)]
    over = [one["ratio"] / one["ideal"] for one in cell["rounds"]]
    first = [one["first_ms"] / one["median_ms"] for one in cell["first"]]
    batches = ", ".join(str(one["batch"]) for one in cell["first"])
    worst = Goal(titles[1], "≤ 3, each", f"{max(first):.3g} at worst", max(first) <= 3, f"batches of {batches}")
    return [at_most(titles[0], over, 1.2), worst]


def family(cells: Cells) -> list[Goal]:
    title = "8. Memory of 200 networks over 20 modules, over that of their weights"
    cell = _of(cells, "family")
    if cell is None:
        return [missing(title, "≤ 1.2", cells.get("family"))]
    grown = cell["full"]["pss_mib"] - cell["empty"]["pss_mib"]
    note = f"{cell['networks']} networks: {grown:.0f} MiB over {cell['weights_mib']:.0f} MiB of weights"
    goal = at_most(title, [grown / cell["weights_mib"]], 1.2, note)
    return [goal if cell["networks"] >= 200 else Goal(goal.name, goal.goal, goal.figure, None, f"{note}: too few")]


JUDGES: Sequence[Callable[[Cells], list[Goal]]] = (
    json32,
    binary224,
    jpeg224,
    overhead,
    mixed8,
    trio,
    batch32,
    tail,
    family,
)

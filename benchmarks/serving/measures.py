"""The measurements, each a cell by its name."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.serving import ours, wire
from benchmarks.serving.contenders import ENGINES, Entry, Running, entries
from benchmarks.serving.contest import LOAD, Contest
from benchmarks.serving.figures import ideal_tail
from benchmarks.serving.load import arrivals_of
from benchmarks.serving.measuring import Ask, Bench, Result, bare, brief, closed, opened
from benchmarks.serving.nets import parts
from benchmarks.serving.peers.common import INPUTS
from benchmarks.serving.prepare import CATEGORIES, MODELS, export_trio, prepare
from benchmarks.serving.processes import BenchError, ending
from benchmarks.serving.shares import shares

EASY_RATE = 40.0
"""Requests a second that every contender answers: there, requests come one by one."""


def _serving(bench: Bench, net: str, content: str = "json", models: tuple[str, ...] = ("m0",)) -> Callable[[], Running]:
    home = ours.publish(bench.scratch, net)
    return lambda: ours.serve(home, content, models)


def json32(bench: Bench) -> Result:
    """One 3x32x32 image in JSON."""
    prepare(bench.scratch, "small")
    return Contest(bench, Ask("small"), _serving(bench, "small")).run(ENGINES)


def json224(bench: Bench) -> Result:
    """One 3x224x224 image in JSON."""
    prepare(bench.scratch, "resnet")
    return Contest(bench, Ask("resnet"), _serving(bench, "resnet")).run(tails=False)


def binary224(bench: Bench) -> Result:
    """Our binary form beside a handler of raw bytes, and beside the best that takes JSON."""
    prepare(bench.scratch, "resnet")
    start = _serving(bench, "resnet", "binary")
    raw = Contest(bench, Ask("resnet"), start, "raw").run(tails=False)
    contest = Contest(bench, Ask("resnet"), start, "json", settled="json224")
    return {"raw": raw, "json": contest.duel([_best_json(bench, contest)], tails=False)}


def _best_json(bench: Bench, contest: Contest) -> Entry:
    """The winner of `json224`; where that was not measured, of a screening of its own."""
    kept = bench.kept("json224") or {}
    for entry in entries(bench.peers):
        if kept.get("finalists", [None])[0] == entry.key and kept["chosen"][entry.key] == entry.setting.title:
            return entry
    found = contest.screen(bench.engines)
    if not found:
        raise BenchError("no peer takes JSON of this size")
    return max(found.values(), key=lambda pair: pair[1]["per_s"])[0]


def jpeg224(bench: Bench) -> Result:
    """One JPEG that the server decodes."""
    prepare(bench.scratch, "resnet")
    ask = Ask("resnet", rows="jpeg")
    start = _serving(bench, "resnet", "jpeg")
    server = start()
    with ending([server.tree]):  # whether ours takes images at all, before every peer is started for it
        closed(bench, server, ask, connections=1, share=0.1)
    found = Contest(bench, ask, start, "jpeg", settled="json224").run(tails=False)
    return found | {"decode": bare(bench, "resnet", "onnx", what="decode")}


def overhead(bench: Bench) -> Result:
    """CPU a request on a net that does next to nothing, saturated and at an easy load."""
    prepare(bench.scratch, "nothing")
    ask = Ask("nothing")
    contest = Contest(bench, ask, _serving(bench, "nothing"), settled="json32")
    best = contest.screen(("torch",))
    mine, rounds = contest.start(), []
    with ending([mine.tree]):
        mine.freeze()
        for entry, _ in best.values():
            try:
                peer = contest.peer(entry)
            except BenchError as error:
                contest.failed[entry.key] = str(error)
                continue
            with ending([peer.tree]):
                rounds += [_overhead_round(bench, ask, mine, peer, seed) for seed in range(bench.rounds)]
    forward = bare(bench, "nothing", "torch")
    return {"screened": contest.screened, "failed": contest.failed, "rounds": rounds, "forward": forward}


def _overhead_round(bench: Bench, ask: Ask, mine: Running, peer: Running, seed: int) -> Result:
    found: Result = {"peer": peer.key}
    for who, server, other in (("ours", mine, peer), ("theirs", peer, mine)):
        other.freeze()
        server.thaw()
        busy = closed(bench, server, ask)
        easy = opened(bench, server, ask, EASY_RATE, seed)
        found[who] = {"busy": brief(busy), "easy": brief(easy)}
    mine.freeze()
    busy_ms = [found[who]["busy"]["cpu_ms"] for who in ("ours", "theirs")]
    bench.say(f"CPU a request: ours {busy_ms[0]:.2f} ms, {peer.key} {busy_ms[1]:.2f} ms")
    return found


def mixed8(bench: Bench) -> Result:
    """Eight categories over one task module, asked by turns, beside one category alone and beside peers with eight nets."""
    prepare(bench.scratch, "small", CATEGORIES)
    models = tuple(MODELS)
    start = _serving(bench, "small", models=models)
    server = start()
    alone = []
    with ending([server.tree]):
        for _ in range(max(3, bench.rounds)):
            one, all_of_them = (brief(closed(bench, server, Ask("small", names))) for names in (("m0",), models))
            alone.append({"one": one, "mixed": all_of_them})
            bench.say(f"ours: one category {one['per_s']:.0f}/s, eight {all_of_them['per_s']:.0f}/s")
    found = Contest(bench, Ask("small", models), start, settled="json32").run(tails=False)
    return found | {"alone": alone}


def trio(bench: Bench) -> Result:
    """One image through three tasks of a category, beside f + 3 (h + g) with nothing around."""
    found: Result = {}
    for net in ("small", "adapted"):
        prepare(bench.scratch, net)
        export_trio(bench.scratch, net)
        server = _serving(bench, net, "binary", ("trio",))()
        rounds = []
        with ending([server.tree]):
            ask = Ask(net, ("trio",), expected="trio")
            for _ in range(max(3, bench.rounds)):
                server.thaw()
                asked = brief(closed(bench, server, ask, connections=1))
                server.freeze()
                cost = {engine: bare(bench, net, engine, what="trio") for engine in ("torch", "onnx")}
                rounds.append({"asked": asked, "bare": cost})
                costs = ", ".join(f"{engine} {one['median_ms']:.2f} ms" for engine, one in cost.items())
                bench.say(f"{net}: asked {asked['p50_ms']:.2f} ms, bare {costs}")
        found[net] = rounds
    return found


def batch32(bench: Bench) -> Result:
    """Rows a second in requests of 32 rows, beside the forward pass in a loop."""
    prepare(bench.scratch, "small")
    server, rounds = _serving(bench, "small", "binary")(), []
    with ending([server.tree]):
        for _ in range(max(3, bench.rounds)):
            server.thaw()
            asked = brief(closed(bench, server, Ask("small", batch=32), connections=8))
            server.freeze()
            cost = {engine: bare(bench, "small", engine, batch=32) for engine in ("torch", "onnx")}
            rounds.append({"rows_per_s": 32 * asked["per_s"], "asked": asked, "bare": cost})
            costs = ", ".join(f"{engine} {32e3 / one['median_ms']:.0f}" for engine, one in cost.items())
            bench.say(f"rows/s: asked {rounds[-1]['rows_per_s']:.0f}, bare {costs}")
    return {"rounds": rounds}


def tail(bench: Bench) -> Result:
    """p99 over p50 at 70 % of saturation beside an ideal queue's, and first requests beside later ones."""
    prepare(bench.scratch, "small")
    start, ask = _serving(bench, "small"), Ask("small")
    server, rounds = start(), []
    with ending([server.tree]):
        for seed in range(max(3, bench.rounds)):
            alone = closed(bench, server, ask, connections=1)
            full = closed(bench, server, ask)
            found = opened(bench, server, ask, LOAD * full["per_s"], seed)
            plan = {"seed": seed, "rate": LOAD * full["per_s"], "warm_s": 0.0, "measure_s": 30.0}
            seen = [1e-3 * latency for latency in alone["latencies_ms"]]
            ideal = ideal_tail(arrivals_of(plan), seen, full["per_s"])
            rounds.append({"ratio": found["p99_ms"] / found["p50_ms"], "ideal": ideal, "open": brief(found)})
            bench.say(f"p99/p50 {rounds[-1]['ratio']:.2f}, ideal {ideal:.2f}")
    return {"rounds": rounds, "first": [_first(bench, batch) for batch in (1, 8, 32)]}


def _first(bench: Bench, batch: int) -> Result:
    """The very first request after ready has this batch, and so have those after it."""
    server = _serving(bench, "small", "binary")()
    with ending([server.tree]):
        found = closed(bench, server, Ask("small", batch=batch, warm=False), connections=1, share=0.5)
    first, *later = found["latencies_ms"]
    bench.say(f"batch {batch}: first {first:.2f} ms, later {np.median(later):.2f} ms")
    return {"batch": batch, "first_ms": first, "median_ms": float(np.median(later))}


FAMILY_REST_S = 35
"""The child that derives forms is ended when it had nothing to do for half a minute."""


def family(bench: Bench) -> Result:
    """Memory of many networks over few modules, all loaded and asked once."""
    count, modules = ours.FAMILY_QUICK if bench.quick else ours.FAMILY
    home = ours.publish_family(bench.scratch, count, modules)
    server = ours.serve(home, "binary")
    with ending([server.tree]):
        empty = server.tree.memory()
        for index in range(count):
            ours.load(server.port, f"n{index}")
            _ask_once(server, f"n{index}")
        ours.settle(server.port)
        time.sleep(FAMILY_REST_S)
        full = server.tree.memory()
    wanted = _family_mib(count, modules)
    bench.say(f"{count} networks: {full['pss_mib'] - empty['pss_mib']:.0f} MiB for {wanted:.0f} MiB of weights")
    return {"networks": count, "empty": empty, "full": full, "weights_mib": round(wanted, 1)}


def _family_mib(networks: int, modules: int) -> float:
    sizes = {name: sum(p.nbytes for p in net.state_dict().values()) for name, net in parts("adapted").items()}
    pairs = {ours.pair_of(index, modules // 2) for index in range(networks)}
    count = {"f": len({f for f, _ in pairs}), "g": len({g for _, g in pairs}), "h": (networks + 1) // 2}
    return sum(sizes[name] * count[name] for name in sizes) / 2**20


def _ask_once(server: Running, model: str) -> None:
    x = np.zeros((1, *INPUTS["adapted"]), np.float32)
    body, headers = wire.v2_binary(x, model, b"")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", server.path.format(model=model), body, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise BenchError(f"ours: {model} answered {answer.status}: {answer.read()[:200]!r}")
    finally:
        connection.close()


CELLS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "json32": json32,
    "json224": json224,
    "binary224": binary224,
    "jpeg224": jpeg224,
    "overhead": overhead,
    "mixed8": mixed8,
    "trio": trio,
    "batch32": batch32,
    "tail": tail,
    "shares": shares,
    "family": family,
}

"""Where the CPU time of a request goes: the server's own, and what each part of it costs alone."""

from __future__ import annotations

import sys

from benchmarks.serving import ours
from benchmarks.serving.contenders import ROOT, Running
from benchmarks.serving.measuring import Ask, Bench, Result, bare, closed
from benchmarks.serving.prepare import prepare
from benchmarks.serving.processes import Tree, cores, ending, free_port, wait_until

FORMS = (("json", 1, 16), ("binary", 32, 32))
"""Content, rows of a request, and rows of the runs that the queue makes of them when it is full."""


def shares(bench: Bench) -> Result:
    """Where a request's CPU time goes: HTTP, reading, the net, and what is left for queue, lookup, figures and answer."""
    prepare(bench.scratch, "small")
    home = ours.publish(bench.scratch, "small")
    found: Result = {}
    for content, rows, run in FORMS:
        mine, floor = ours.serve(home, content, ("m0",)), _floor(bench, ours.FORMS[content])
        with ending([mine.tree, floor.tree]):
            for server in (mine, floor):
                server.freeze()
            rounds = [_round(bench, mine, floor, rows, run) for _ in range(max(3, bench.rounds))]
        found[f"{content}, {rows}"] = rounds
        last = ", ".join(f"{name} {value:.3f}" for name, value in rounds[-1].items())
        bench.say(f"{content}, {rows} rows, CPU ms a request: {last}")
    return found


def _floor(bench: Bench, form: str) -> Running:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.floor", str(port)]
    environment = {"PYTHONPATH": str(ROOT)}
    tree = Tree(command, environment, cores()[1], bench.scratch, bench.scratch / "floor.log")
    wait_until(tree, f"http://127.0.0.1:{port}/", "a server that does nothing")
    return Running("floor", tree, port, ours.PATH, form)


def _round(bench: Bench, mine: Running, floor: Running, rows: int, run: int) -> dict[str, float]:
    asked = _cpu_ms(bench, mine, Ask("small", batch=rows))
    http = _cpu_ms(bench, floor, Ask("small", batch=rows, checked=False))
    read = bare(bench, "small", "onnx", batch=rows, what=f"read {mine.form}")["cpu_ms"]
    net = bare(bench, "small", "onnx", batch=run)["cpu_ms"] * rows / run
    return {"asked": asked, "http": http, "read": read, "net": net, "rest": asked - http - read - net}


def _cpu_ms(bench: Bench, server: Running, ask: Ask) -> float:
    server.thaw()
    try:
        return float(closed(bench, server, ask, connections=32 if ask.batch == 1 else 8)["cpu_ms"])
    finally:
        server.freeze()

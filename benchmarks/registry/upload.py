"""Uploads beside the floor: read a socket, hash, write, make durable."""

from __future__ import annotations

import hashlib
import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.registry import ours
from benchmarks.registry.files import numbered, write_large
from benchmarks.registry.measuring import Bench, Result, apart, command, environment
from benchmarks.serving.contenders import ROOT, Running
from benchmarks.serving.processes import Tree, ending, free_port, wait_until

SIZES_MIB = {1: 12, 64: 3, 256: 1}
"""To how many uploads of this size are sent in a run."""
MIB = 2**20


def upload(bench: Bench) -> Result:
    """Uploads of module files, MiB a second beside the floor's"""
    home = bench.folder("upload")
    chosen = ours.settings(home)
    ours.prepare(chosen)
    server = ours.api(chosen, ours.server_core())
    with ending([server.tree]):
        floor = _floor(bench.folder("floor"))
        with ending([floor.tree]):
            return {str(size): _size(bench, server, floor, size) for size in SIZES_MIB}


def _floor(folder: Path) -> Running:
    port = free_port()
    words = command("floor", str(port), str(folder), core=ours.server_core())
    tree = Tree(words, environment(), None, ROOT, folder.with_suffix(".log"))
    wait_until(tree, f"http://127.0.0.1:{port}/", "the floor")
    return Running("floor", tree, port, "", "")


def _size(bench: Bench, server: Running, floor: Running, size: int) -> list[Result]:
    file = bench.scratch / "files" / f"{size}.safetensors"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_large(file.with_suffix(".part"), size * MIB)
        file.with_suffix(".part").rename(file)
    numbers = itertools.count(1)
    _round(server, floor, file, 1, numbers)  # nobody's first one is counted
    rounds = [_round(server, floor, file, SIZES_MIB[size], numbers) for _ in range(bench.rounds)]
    for one in rounds:
        said = ", ".join(f"{name} {value:.0f} MiB/s" for name, value in one.items() if name != "check_s")
        bench.say(f"{size} MiB: {said}; check and rows alone {one['check_s']:.3f} s")
    return rounds


def _round(server: Running, floor: Running, file: Path, count: int, numbers: Iterator[int]) -> Result:
    """Each way in turn, ours beside the floor's: MiB a second of the median upload."""
    size = file.stem
    fresh = [next(numbers) for _ in range(count)]
    data = file.read_bytes()
    digests = {str(number): hashlib.sha256(numbered(data, number)).hexdigest() for number in fresh}
    plan = {"file": str(file), "numbers": fresh, "refused": False, "digests": {}, "status": 201}
    refused = {"path": f"/v1/modules/up-{size}", "refused": True, "status": 422}
    there = {"path": f"/v1/modules/again-{size}?digest={{digest}}", "file": "", "digests": digests}
    return {
        "transfer": _rate(server, plan | refused, data),
        "transfer_floor": _rate(floor, plan | {"path": "/staged"}, data),
        "whole": _rate(server, plan | {"path": f"/v1/modules/up-{size}"}, data),
        "whole_floor": _rate(floor, plan | {"path": "/kept"}, data),
        "check_s": _seconds(server, plan | there),
    }


def _rate(server: Running, plan: Result, data: bytes) -> float:
    return round(len(data) / MIB / _seconds(server, plan), 2)


def _seconds(server: Running, plan: Result) -> float:
    server.tree.pin()
    return statistics.median(apart("sender", plan | {"port": server.port}, 600)["seconds"])

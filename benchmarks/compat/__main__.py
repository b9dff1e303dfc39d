"""Compatible components on CIFAR-10: `make bench-compat DATA=FOLDER`.

Trains the networks of each cell of the protocol (kept in --scratch), recombines them, and writes compat.json, compat.md and a plot into
docs/results/. Stopped, it goes on where it was, also within a training. Whole, it takes hours on two cores.

  python -m benchmarks.compat --data ~/data            # everything
  python -m benchmarks.compat --data ~/data --quick    # a small one in minutes, into --scratch
  python -m benchmarks.compat --data ~/data --study    # what moves recombination: other recipes, on validation images
  python -m benchmarks.compat --report                 # document and plot from what was measured
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rich.console import Console

from benchmarks.cells import Cells
from benchmarks.compat import study
from benchmarks.compat.measuring import Bench, quick
from benchmarks.compat.protocol import RECIPE, SEEDS, SETTINGS, Cell, cells
from benchmarks.compat.report import STUDY, write
from benchmarks.running import parser, watching
from benchmarks.transplant.worlds.cifar10 import Cifar10
from benchmarks.writing import write_whole
from graftery.learning.loop import Progress as Step


def arguments() -> argparse.Namespace:
    made = parser("benchmarks.compat", __doc__)
    made.add_argument("--study", action="store_true", help="other recipes, on validation images: compat-study.md")
    made.add_argument("--setting", nargs="+", choices=[s.name for s in SETTINGS], help="only these settings")
    made.add_argument("--depth", nargs="+", help="only these depths: middle, early, late")
    made.add_argument("--methods", nargs="+", help="only these methods, by name")
    made.add_argument("--seeds", nargs="+", type=int, help="only these")
    return made.parse_args()


def wanted_cells(wanted: argparse.Namespace) -> list[Cell]:
    """The cells that were asked for, in order."""
    return [
        cell
        for cell in cells(tuple(wanted.seeds or SEEDS))
        if (not wanted.setting or cell.setting.name in wanted.setting)
        and (not wanted.depth or cell.depth in wanted.depth)
        and (not wanted.methods or cell.method.name in wanted.methods)
    ]


def measure(bench: Bench, wanted: argparse.Namespace, kept: Cells) -> None:
    """Measure what is not there yet."""

    def one(cell: Cell, tell: Callable[[Step], None]) -> dict[str, Any]:
        return replace(bench, progress=tell).measure(cell)

    with watching() as watch:
        watch.measure(wanted_cells(wanted), kept, one)


def studied(bench: Bench, wanted: argparse.Namespace) -> None:
    """Measure the study's trials that are not there yet, and write its page."""
    kept = Cells(wanted.out / "compat-study.json", study.COMMAND, RECIPE)

    def one(trial: study.Trial, tell: Callable[[Step], None]) -> dict[str, Any]:
        return trial.measure(replace(bench, progress=tell))

    if not wanted.report:
        with watching() as watch:
            watch.measure(list(study.trials(wanted.seeds or study.SEEDS)), kept, one)
    if kept.count:
        missing = sum(not kept.has(trial.key, trial.where) for trial in study.trials())
        write_whole(wanted.out / STUDY, study.page(list(kept), kept.facts, missing))
        Console().print(f"written: {wanted.out / STUDY}")


def main() -> None:
    wanted = arguments()
    if wanted.quick:
        wanted.out = wanted.scratch / "quick"
        wanted.seeds, wanted.setting, wanted.depth = (
            [0],
            wanted.setting or [SETTINGS[0].name],
            wanted.depth or ["middle"],
        )
    folder = wanted.out if wanted.quick else wanted.scratch
    bench = Bench(Cifar10(wanted.data, wanted.scratch), folder / "nets" / "compat")
    bench = quick(bench) if wanted.quick else bench
    if wanted.study:
        studied(bench, wanted)
        return
    kept = Cells(wanted.out / "compat.json", "make bench-compat DATA=FOLDER", RECIPE)
    if not wanted.report:
        measure(bench, wanted, kept)
    write(kept, wanted.out, sum(not kept.has(cell.key, cell.where) for cell in cells()))
    Console().print(f"written: {wanted.out / 'compat.md'}")


if __name__ == "__main__":
    main()

"""Partial network cloning on digits, CIFAR-10 and MNIST: `make bench-cloning DATA=FOLDER`.

Tunes the baselines of a world (on other seeds, by validation images), measures each cell of the protocol, and writes cloning.json,
cloning.md and a plot into docs/results/. Stopped, it goes on where it was; several processes on one --out divide the work. The digits take
half an hour on a core, CIFAR-10 hours.

  python -m benchmarks.cloning --data ~/data              # everything whose data are there
  python -m benchmarks.cloning --world digits             # needs no data
  python -m benchmarks.cloning --mnist ~/mnist            # MNIST too, from its official files
  python -m benchmarks.cloning --tune                     # only choose the baselines' rates
  python -m benchmarks.cloning --data ~/data --quick      # a small one in minutes, into --scratch
  python -m benchmarks.cloning --data ~/data --study      # what moves a clone's accuracy, on validation images
  python -m benchmarks.cloning --report                   # document and plot from what was measured
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.cells import Cells
from benchmarks.cloning import study, tuning
from benchmarks.cloning.dealing import Dealer
from benchmarks.cloning.measuring import Bench, quick
from benchmarks.cloning.protocol import KS, ROWS, SEEDS, Cell, cells
from benchmarks.cloning.report import write
from benchmarks.cloning.worlds import NAMES, absent, world
from benchmarks.running import C, parser, watching
from graftery.learning.loop import Progress as Step
from graftery.spec.recipes import CloneRecipe

QUICK_KS = (2,)


def arguments() -> argparse.Namespace:
    made = parser("benchmarks.cloning", __doc__)
    made.add_argument("--mnist", type=Path, help="folder of MNIST's four official files")
    made.add_argument("--world", nargs="+", choices=NAMES, help="only these worlds")
    made.add_argument("--k", nargs="+", type=int, choices=KS, help="only so many wanted classes")
    made.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], help="only these rows, by name")
    made.add_argument("--seeds", nargs="+", type=int, help="only these seeds")
    made.add_argument("--tune", action="store_true", help="only choose the baselines' rates and strengths")
    made.add_argument("--study", action="store_true", help="other recipes, on validation images: cloning-study.md")
    return made.parse_args()


def wanted_cells(wanted: argparse.Namespace, name: str) -> list[Cell]:
    """The cells of a world that were asked for, in order."""
    seeds, ks = wanted.seeds or ([0] if wanted.quick else SEEDS), wanted.k or (QUICK_KS if wanted.quick else KS)
    return [cell for cell in cells([name], seeds, ks) if not wanted.rows or cell.row.name in wanted.rows]


def measure(bench: Bench, todo: list[C], kept: Cells, of: Callable[[Bench, C], dict[str, Any]]) -> None:
    """Measure these cells or trials. Args: `of`, the figures of one."""

    def one(cell: C, tell: Callable[[Step], None]) -> dict[str, Any]:
        return of(replace(bench, progress=tell), cell)

    with watching() as watch:
        watch.measure(todo, kept, one)


def bench_of(name: str, wanted: argparse.Namespace) -> Bench:
    """A world's bench, with nothing chosen yet."""
    folder = wanted.out if wanted.quick else wanted.scratch
    bench = Bench(Dealer(world(name, wanted.data, wanted.scratch, wanted.mnist), folder / "nets" / "cloning"))
    return quick(bench) if wanted.quick else bench


def run(name: str, wanted: argparse.Namespace, kept: Cells) -> None:
    """Tune and measure what is not there yet of a world."""
    bench = bench_of(name, wanted)
    todo = [cell for cell in wanted_cells(wanted, name) if not kept.has(cell.key, cell.where)]
    if wanted.tune:
        tuning.tune(bench, kept, [row for row in ROWS if not wanted.rows or row.name in wanted.rows], Console().print)
        return
    tuning.tune(bench, kept, [row for row in ROWS if any(cell.row is row for cell in todo)], Console().print)
    bench.dealer.train(sorted({cell.seed for cell in todo}))
    measure(replace(bench, chosen=tuning.chosen(kept.facts, name)), todo, kept, Bench.measure)


def study_of(name: str, wanted: argparse.Namespace, table: Cells, kept: Cells) -> None:
    """Choose what the study's baselines learn with, and measure the trials that are not there yet of a world."""
    bench = bench_of(name, wanted)
    todo = [each for each in study.trials([name], wanted.seeds or bench.tuning_seeds) if not kept.has(each.key)]
    tuning.tune(
        bench, table, [row for row in ROWS if any(each.variant.row == row.name for each in todo)], Console().print
    )
    bench = replace(bench, chosen=tuning.chosen(table.facts, name))
    measure(bench, todo, kept, lambda ours, trial: trial.measure(ours))


def present(wanted: argparse.Namespace) -> Iterator[str]:
    """The worlds that are to be measured and whose data are there; what keeps the others is said."""
    for name in () if wanted.report else wanted.world or NAMES:
        why = absent(name, wanted.data, wanted.scratch, wanted.mnist)
        if why is None:
            yield name
        else:
            Console().print(f"{name} is skipped: {why}")


def main() -> None:
    wanted = arguments()
    if wanted.quick:
        wanted.out = wanted.scratch / "quick"
    said = "make bench-cloning DATA=FOLDER" + (" ARGS=--quick" if wanted.quick else "")
    table = Cells(wanted.out / "cloning.json", said, CloneRecipe())
    if wanted.study:
        kept = Cells(wanted.out / "cloning-study.json", study.COMMAND, CloneRecipe())
        for name in present(wanted):
            study_of(name, wanted, table, kept)
        if kept.count:
            study.write(kept, wanted.out)
            Console().print(f"written: {wanted.out / study.PAGE}")
        return
    for name in present(wanted):
        run(name, wanted, table)
    write(table, wanted.out)
    Console().print(f"written: {wanted.out / 'cloning.md'}")


if __name__ == "__main__":
    main()

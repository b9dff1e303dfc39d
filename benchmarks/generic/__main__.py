"""A generic network that grows by one category after the other, on CIFAR-10: `make bench-generic DATA=FOLDER`.

Trains the nets of each seed (kept in --scratch; teachers are those of bench-transplant), transplants, consolidates, fine-tunes, and writes generic.json,
generic.md and a plot into docs/results/. Stopped, it goes on where it was. A seed takes hours on two cores.

  python -m benchmarks.generic --data ~/data            # everything
  python -m benchmarks.generic --data ~/data --quick    # four categories and short trainings, into --scratch
  python -m benchmarks.generic --data ~/data --tune     # only try recipes of the consolidation, on seeds that are not reported
  python -m benchmarks.generic --report                 # document and plot from what was measured
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from benchmarks.cells import Cells
from benchmarks.generic.measuring import Bench, quick
from benchmarks.generic.protocol import ROWS, SEEDS, Cell, cells
from benchmarks.generic.report import write
from benchmarks.generic.tuning import tune
from benchmarks.running import parser, watching
from benchmarks.transplant.worlds.cifar10 import Cifar10
from graftery.learning.loop import Progress as Step
from graftery.spec.recipes import ConsolidateRecipe


def arguments() -> argparse.Namespace:
    made = parser("benchmarks.generic", __doc__)
    made.add_argument("--rows", nargs="+", choices=ROWS, help="only these rows, by name")
    made.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    made.add_argument("--tune", action="store_true", help="only try recipes of the consolidation")
    return made.parse_args()


def wanted_cells(wanted: argparse.Namespace, count: int) -> list[Cell]:
    """The cells that were asked for, in order."""
    return [cell for cell in cells(wanted.seeds, count) if not wanted.rows or cell.row in wanted.rows]


def measure(bench: Bench, wanted: argparse.Namespace, kept: Cells) -> None:
    """Measure what is not there yet."""
    with watching() as watch:
        bench = replace(bench, say=watch.say)
        if wanted.tune:
            tune(bench, kept, watch.say)
            return

        def one(cell: Cell, tell: Callable[[Step], None]) -> dict[str, Any]:
            return replace(bench, progress=tell).measure(cell)

        watch.measure(wanted_cells(wanted, bench.count), kept, one)


def main() -> None:
    wanted = arguments()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if wanted.quick:
        wanted.out, wanted.seeds = wanted.scratch / "quick", [0]
    said = "make bench-generic DATA=FOLDER" + (" ARGS=--quick" if wanted.quick else "")
    kept = Cells(wanted.out / "generic.json", said, ConsolidateRecipe())
    if not wanted.report:
        folder = wanted.out if wanted.quick else wanted.scratch
        bench = Bench(Cifar10(wanted.data, wanted.scratch), folder / "nets")
        measure(quick(bench) if wanted.quick else bench, wanted, kept)
    write(kept, wanted.out)
    Console().print(f"written: {wanted.out / 'generic.md'}")


if __name__ == "__main__":
    main()

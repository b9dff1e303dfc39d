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
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.cells import Cells
from benchmarks.generic.measuring import Bench, quick
from benchmarks.generic.protocol import ROWS, SEEDS, Cell, cells
from benchmarks.generic.report import write
from benchmarks.generic.tuning import tune
from benchmarks.transplant.worlds.cifar10 import Cifar10
from graftery.learning.loop import Progress as Step
from graftery.spec.recipes import ConsolidateRecipe

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "benchmarks.generic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("GRAFTERY_DATA")
    parser.add_argument("--data", type=Path, default=data and Path(data), help="folder of the archives; GRAFTERY_DATA")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="only these rows, by name")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--tune", action="store_true", help="only try recipes of the consolidation")
    parser.add_argument("--quick", action="store_true", help="a small one in minutes, to see that it works")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the document")
    parser.add_argument("--scratch", type=Path, default=Path(".bench"), help="decoded data and trained nets")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def wanted_cells(wanted: argparse.Namespace, count: int) -> list[Cell]:
    """The cells that were asked for, in order."""
    return [cell for cell in cells(wanted.seeds, count) if not wanted.rows or cell.row in wanted.rows]


def measure(bench: Bench, wanted: argparse.Namespace, kept: Cells) -> None:
    """Measure what is not there yet."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console()) as bar:
        todo = [cell for cell in wanted_cells(wanted, bench.count) if not kept.has(cell.key)]
        line, steps = bar.add_task("cells", total=len(todo)), bar.add_task("steps", total=None)

        def tell(now: Step) -> None:
            bar.update(steps, completed=now.step, total=now.steps, description=f"{now.phase}, loss {now.loss:.3f}")

        bench = replace(bench, progress=tell, say=lambda text: bar.console.print(f"  {text}"))
        if wanted.tune:
            tune(bench, kept, bar.console.print)
            return
        for cell in todo:
            bar.update(line, description=cell.key[:78])
            where = {"row": cell.row, "seed": cell.seed, "count": cell.count}
            kept.put(cell.key, {**where, **bench.measure(cell)})
            bar.advance(line)
            if not bar.console.is_terminal:
                bar.console.print(f"{cell.key}: {kept.count} cells")


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

"""Compatible components on CIFAR-10: `make bench-compat DATA=FOLDER`.

Trains the networks of each cell of the protocol (kept in --scratch), recombines them, and writes compat.json, compat.md and a plot into
docs/results/. Stopped, it goes on where it was, also within a training. Whole, it takes hours on two cores.

  python -m benchmarks.compat --data ~/data            # everything
  python -m benchmarks.compat --data ~/data --quick    # a small one in minutes, into --scratch
  python -m benchmarks.compat --report                 # document and plot from what was measured
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.cells import Cells
from benchmarks.compat.measuring import Bench, quick
from benchmarks.compat.protocol import RECIPE, SEEDS, SETTINGS, Cell, cells
from benchmarks.compat.report import write
from benchmarks.transplant.worlds.cifar10 import Cifar10
from graftery.learning.loop import Progress as Step

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "benchmarks.compat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("GRAFTERY_DATA")
    parser.add_argument("--data", type=Path, default=data and Path(data), help="folder of the archives; GRAFTERY_DATA")
    parser.add_argument("--setting", nargs="+", choices=[s.name for s in SETTINGS], help="only these settings")
    parser.add_argument("--depth", nargs="+", help="only these depths: middle, early, late")
    parser.add_argument("--methods", nargs="+", help="only these methods, by name")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--quick", action="store_true", help="few images, two epochs, one seed: to see that it works")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the document")
    parser.add_argument("--scratch", type=Path, default=Path(".bench"), help="decoded data and trained nets")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def wanted_cells(wanted: argparse.Namespace) -> list[Cell]:
    """The cells that were asked for, in order."""
    return [
        cell
        for cell in cells(tuple(wanted.seeds))
        if (not wanted.setting or cell.setting.name in wanted.setting)
        and (not wanted.depth or cell.depth in wanted.depth)
        and (not wanted.methods or cell.method.name in wanted.methods)
    ]


def measure(bench: Bench, wanted: argparse.Namespace, kept: Cells) -> None:
    """Measure what is not there yet."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console()) as bar:
        todo = [cell for cell in wanted_cells(wanted) if not kept.has(cell.key)]
        line, steps = bar.add_task("cells", total=len(todo)), bar.add_task("steps", total=None)

        def tell(now: Step) -> None:
            bar.update(steps, completed=now.step, total=now.steps, description=f"steps, loss {now.loss:.3f}")

        bench = replace(bench, progress=tell)
        for cell in todo:
            bar.update(line, description=cell.key[:78])
            where = {"setting": cell.setting.name, "depth": cell.depth, "method": cell.method.name, "seed": cell.seed}
            kept.put(cell.key, {**where, **bench.measure(cell)})
            bar.advance(line)
            if not bar.console.is_terminal:
                bar.console.print(f"{cell.key}: {kept.count} cells")


def main() -> None:
    wanted = arguments()
    if wanted.quick:
        wanted.out = wanted.scratch / "quick"
        wanted.seeds, wanted.setting, wanted.depth = (
            [0],
            wanted.setting or [SETTINGS[0].name],
            wanted.depth or ["middle"],
        )
    kept = Cells(wanted.out / "compat.json", "make bench-compat DATA=FOLDER", RECIPE)
    if not wanted.report:
        folder = wanted.out if wanted.quick else wanted.scratch
        bench = Bench(Cifar10(wanted.data, wanted.scratch), folder / "nets" / "compat")
        measure(quick(bench) if wanted.quick else bench, wanted, kept)
    write(kept, wanted.out, sum(not kept.has(cell.key) for cell in cells()))
    Console().print(f"written: {wanted.out / 'compat.md'}")


if __name__ == "__main__":
    main()

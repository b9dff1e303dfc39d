"""Applications of compatible components, three after Gygli et al. 2021 and a transplant: `make example-compat DATA=FOLDER`.

On CIFAR-10 where FOLDER has cifar10.zip or cifar-10-binary.tar.gz, else on the digits of scikit-learn. Each writes a table and a figure,
compat-applications-NAME.md, .svg and .json, into --out, and a page that has them all. Stopped, it goes on where it was.

  python -m examples.compat --data ~/data                   # all of them, into docs/results
  python -m examples.compat adaptation --data ~/data        # one of them
  python -m examples.compat --world digits --quick --out .  # in a minute, to see that it works
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.cells import Cells
from examples.compat.applications import APPLICATIONS, Application
from examples.compat.report import write
from examples.compat.worlds import WORLDS, World, world_of

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SEEDS = (0, 1, 2)
COMMAND = "make example-compat DATA=FOLDER"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "examples.compat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("GRAFTERY_DATA")
    parser.add_argument("application", nargs="*", metavar="NAME", help=f"{', '.join(APPLICATIONS)}; by default all")
    parser.add_argument("--data", type=Path, default=data and Path(data), help="folder of the archives; GRAFTERY_DATA")
    parser.add_argument("--world", choices=WORLDS, help="by default CIFAR-10 where it is")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--quick", action="store_true", help="few images and epochs, one seed: figures mean nothing")
    parser.add_argument("--report", action="store_true", help="measure nothing, write table and figure")
    parser.add_argument("--scratch", type=Path, default=Path(".bench"), help="decoded data; figures of --quick")
    parser.add_argument("--out", type=Path, help="by default docs/results; with --quick, a folder of --scratch")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    wanted = parser.parse_args()
    if unknown := sorted(set(wanted.application) - set(APPLICATIONS)):
        parser.error(f"there is no application {unknown[0]}: {', '.join(APPLICATIONS)}")
    wanted.application = wanted.application or list(APPLICATIONS)
    wanted.out = wanted.out or (wanted.scratch / "examples-compat" if wanted.quick else RESULTS)
    wanted.seeds = wanted.seeds[:1] if wanted.quick else wanted.seeds
    return wanted


def measure(of: Application, world: World, seeds: list[int], kept: Cells, bar: Progress) -> None:
    """The seeds that are not there yet; a seed is kept once all of it is measured."""
    todo = [seed for seed in seeds if not kept.has(_key(world, seed), {"recipe": world.recipe_of()})]
    line = bar.add_task(of.name, total=len(seeds), completed=len(seeds) - len(todo))
    for seed in todo:
        found = []
        for cell in of.cells(world, seed):
            figures = ", ".join(f"{row} {100 * share:.1f}" for row, share in cell["reached"].items())
            bar.console.print(f"{of.name}, seed {seed}: {cell['case']}: {figures}", soft_wrap=True)
            found.append(cell)
        kept.put(_key(world, seed), {"world": world.title, "seed": seed, "recipe": world.recipe_of(), "cells": found})
        bar.advance(line)


def main() -> None:
    wanted = arguments()
    torch.set_num_threads(wanted.threads)
    world = world_of(wanted.data, wanted.scratch, quick=wanted.quick, name=wanted.world)
    columns = (TextColumn("{task.description:16}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(width=140)) as bar:
        for name in wanted.application:
            kept = Cells(wanted.out / f"compat-applications-{name}.json", COMMAND, world.recipe)
            if not wanted.report:
                measure(APPLICATIONS[name], world, wanted.seeds, kept, bar)
    write(wanted.out, COMMAND, world.recipe)


def _key(world: World, seed: int) -> str:
    return f"{world.title}/{seed}"


if __name__ == "__main__":
    main()

"""The table of transplants on real data: `make bench-transplant DATA=FOLDER`.

Trains the nets of each world (kept in --scratch), learns every adapter of the protocol, and writes transplant-WORLD.json,
transplant-WORLD.md and plots into docs/results/. Stopped, it goes on where it was. Whole, it takes hours on two cores.

  python -m benchmarks.transplant --data ~/data                    # everything
  python -m benchmarks.transplant --data ~/data --world cifar10    # one world
  python -m benchmarks.transplant --data ~/data --quick            # a small one in minutes, into --scratch
  python -m benchmarks.transplant --report                         # documents and plots from what was measured
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.cells import Cells
from benchmarks.transplant.costs import COST_TURNS, cost
from benchmarks.transplant.measuring import Bench
from benchmarks.transplant.protocol import SEEDS, Row, Setting, settings
from benchmarks.transplant.report import write
from benchmarks.transplant.worlds import WORLDS
from benchmarks.transplant.worlds.base import Task, World
from benchmarks.transplant.zoo import Zoo
from graftery.spec.recipes import TransplantRecipe

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
REFERENCES = Row("references", "", "")
"""Teacher and identity adapter: measured once for all rows."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One cell to be measured."""

    setting: Setting
    seed: int
    target: str
    task: Task
    row: Row

    @property
    def key(self) -> str:
        return "/".join([self.setting.name, self.target, self.task.output, str(self.seed), self.row.name])


def jobs(world: World, wanted: argparse.Namespace) -> Iterator[Job]:
    """All cells in order: the table first, seed by seed, so that what is there at any time is worth looking at."""
    for setting in settings(world.dense, world.augment):
        if wanted.setting and setting.name not in wanted.setting:
            continue
        if (setting.depth and setting.depth not in world.cuts) or setting.tasks > len(world.tasks):
            continue
        for seed in wanted.seeds:
            for index, target in enumerate(world.targets[:: setting.every]):
                for task in world.tasks[: setting.tasks]:
                    rows = [
                        row for row in (REFERENCES, *setting.rows) if _is_wanted(row, wanted) and index % row.every == 0
                    ]
                    yield from (Job(setting, seed, target, task, row) for row in rows)


def _is_wanted(row: Row, wanted: argparse.Namespace) -> bool:
    return not wanted.rows or any(fnmatchcase(row.name, pattern) for pattern in wanted.rows)


def measure(world: World, wanted: argparse.Namespace, cells: Cells, bar: Progress) -> None:
    """Measure what is not there yet."""
    zoo = Zoo(world, wanted.scratch / "nets", lambda line: bar.console.print(f"  {line}"))
    todo = [job for job in jobs(world, wanted) if wanted.again or not cells.has(job.key)]
    line = bar.add_task(world.name, total=len(todo))
    bench, of = None, None
    for job in todo:
        bar.update(line, description=f"{world.name} {job.key}"[:78])
        if bench is None or of != (job.setting.name, job.target, job.seed, job.task):
            bench, of = (
                Bench.of(zoo, job.setting, job.target, job.seed, job.task),
                (job.setting.name, job.target, job.seed, job.task),
            )
        cell = {"metrics": bench.references()} if job.row is REFERENCES else bench.cell(job.row)
        where = {"setting": job.setting.name, "target": job.target, "task": job.task.output, "seed": job.seed}
        cells.put(job.key, {**where, "row": job.row.name, **cell})
        bar.advance(line)
        if not bar.console.is_terminal:
            bar.console.print(f"{world.name} {job.key}: {cells.count} cells")


def missing(world: World, cells: Cells) -> int:
    """How many cells of the whole protocol were not measured yet."""
    return sum(not cells.has(job.key) for job in jobs(world, argparse.Namespace(setting=None, seeds=SEEDS, rows=None)))


def measure_costs(world: World, wanted: argparse.Namespace, cells: Cells, bar: Progress) -> None:
    """What a transplant costs beside its teacher, a few times, teacher and transplant in turns."""
    if world.schedule is None or (wanted.setting and "cost" not in wanted.setting):
        return
    zoo = Zoo(world, wanted.scratch / "nets", lambda line: bar.console.print(f"  {line}"))
    table = settings(world.dense, world.augment)[0]
    todo = [(target, turn) for target in world.targets[:2] for turn in range(COST_TURNS)]
    for target, turn in bar.track(todo, description=f"{world.name} cost"):
        key = f"cost/{target}/{turn}"
        if not cells.has(key):
            bench = Bench.of(zoo, table, target, 0, world.tasks[0])
            cells.put(
                key, {"setting": "cost", "target": target, "task": "", "seed": turn, "row": "cost", **cost(bench)}
            )


def quick(world: World, scratch: Path, wanted: argparse.Namespace) -> World:
    """The same, small: one seed, two targets, the table only, nets trained for a few steps."""
    if world.schedule is not None:
        world.schedule = dataclasses.replace(world.schedule, steps=world.schedule.steps // 8)
    type(world).targets = type(world).targets[:2]
    wanted.seeds, wanted.setting = [0], ["table", "cost"]
    wanted.scratch = wanted.out = scratch / "quick"
    return world


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "benchmarks.transplant", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("GRAFTERY_DATA")
    parser.add_argument("--data", type=Path, default=data and Path(data), help="folder of the archives; GRAFTERY_DATA")
    parser.add_argument("--world", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--setting", nargs="+", help="only these settings, by name")
    parser.add_argument("--rows", nargs="+", help="only these rows, by name; * stands for anything")
    parser.add_argument("--again", action="store_true", help="measure what was measured before: its recipe has changed")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--quick", action="store_true", help="a small table in minutes, to see that it works")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the documents")
    parser.add_argument("--scratch", type=Path, default=Path(".bench"), help="decoded data and trained nets")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    wanted = arguments()
    torch.set_num_threads(wanted.threads)
    columns = (TextColumn("{task.description:78}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(width=140)) as bar:
        for name in wanted.world:
            world = WORLDS[name](wanted.data, wanted.scratch)
            world = quick(world, wanted.scratch, wanted) if wanted.quick else world
            cells = Cells(
                wanted.out / f"transplant-{name}.json", "make bench-transplant DATA=FOLDER", TransplantRecipe()
            )
            if not wanted.report:
                measure(world, wanted, cells, bar)
                measure_costs(world, wanted, cells, bar)
            write(world, cells, wanted.out, missing(world, cells))


if __name__ == "__main__":
    main()

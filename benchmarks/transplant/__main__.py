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
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from rich.console import Console

from benchmarks.cells import Cells
from benchmarks.running import Watch, parser, watching
from benchmarks.transplant.costs import COST_TURNS, cost
from benchmarks.transplant.measuring import Bench
from benchmarks.transplant.protocol import DEFAULT, REFERENCES, SEEDS, Row, Setting, settings
from benchmarks.transplant.report import write
from benchmarks.transplant.worlds import WORLDS
from benchmarks.transplant.worlds.base import Task, World
from benchmarks.transplant.zoo import Zoo
from graftery.learning.loop import Progress
from graftery.spec.recipes import TransplantRecipe


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

    @property
    def where(self) -> dict[str, Any]:
        of = {"setting": self.setting.name, "target": self.target, "task": self.task.output}
        return {**of, "seed": self.seed, "row": self.row.name}

    def bench(self, zoo: Zoo) -> Bench:
        """The nets of this cell, which are trained if they are not there."""
        return Bench.of(zoo, self.setting, self.target, self.seed, self.task)


@dataclasses.dataclass(frozen=True)
class Cost:
    """A turn of a transplant beside its teacher."""

    target: str
    turn: int

    @property
    def key(self) -> str:
        return f"cost/{self.target}/{self.turn}"

    @property
    def where(self) -> dict[str, Any]:
        return {"setting": "cost", "target": self.target, "task": "", "seed": self.turn, "row": "cost"}


def jobs(world: World, wanted: argparse.Namespace) -> Iterator[Job]:
    """All cells in order: the table first, seed by seed, so that what is there at any time is worth looking at."""
    for setting in settings(world.dense, quick=world.quick):
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


def measure(world: World, wanted: argparse.Namespace, cells: Cells, watch: Watch) -> None:
    """Measure what is not there yet."""
    zoo = Zoo(world, wanted.scratch / "nets", watch.say)
    last: dict[tuple[str, str, int, Task], Bench] = {}  # the rows of a cell follow each other, on the same nets

    def one(job: Job, _tell: Callable[[Progress], None]) -> dict[str, Any]:
        of = (job.setting.name, job.target, job.seed, job.task)
        if of not in last:
            last.clear()
            last[of] = job.bench(zoo)
        return {"metrics": last[of].references()} if job.row is REFERENCES else last[of].cell(job.row)

    watch.measure(jobs(world, wanted), cells, one, again=wanted.again)


def missing(world: World, cells: Cells) -> int:
    """How many cells of the whole protocol were not measured yet."""
    return sum(not cells.has(job.key) for job in jobs(world, argparse.Namespace(setting=None, seeds=SEEDS, rows=None)))


def measure_costs(world: World, wanted: argparse.Namespace, cells: Cells, watch: Watch) -> None:
    """What a transplant costs beside its teacher, a few times, teacher and transplant in turns."""
    if world.schedule is None or (wanted.setting and "cost" not in wanted.setting):
        return
    zoo, task = Zoo(world, wanted.scratch / "nets", watch.say), world.tasks[0]
    table = settings(world.dense, quick=world.quick)[0]

    row = next(row for row in table.rows if row.name == DEFAULT)

    def one(turn: Cost, _tell: Callable[[Progress], None]) -> dict[str, Any]:
        return cost(Bench.of(zoo, table, turn.target, 0, task), row.recipes(0, task.augment)[0])

    todo = [Cost(target, turn) for target in world.targets[:2] for turn in range(COST_TURNS)]
    watch.measure(todo, cells, one)


def quick(world: World) -> World:
    """The same, small: two targets, nets and adapters trained for a few steps."""
    if world.schedule is not None:
        world.schedule = dataclasses.replace(world.schedule, steps=world.schedule.steps // 24)
    type(world).targets = type(world).targets[:2]
    world.quick = True
    return world


def arguments() -> argparse.Namespace:
    made = parser("benchmarks.transplant", __doc__)
    made.add_argument("--world", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    made.add_argument("--setting", nargs="+", help="only these settings, by name")
    made.add_argument("--rows", nargs="+", help="only these rows, by name; * stands for anything")
    made.add_argument("--again", action="store_true", help="measure what was measured before: its recipe has changed")
    made.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    made.add_argument("--threads", type=int, default=1)
    return made.parse_args()


def shortened(wanted: argparse.Namespace) -> argparse.Namespace:
    """What is wanted, small: one seed, the table only, all of it into a folder in --scratch. The data stay where they are."""
    folder = wanted.scratch / "quick"
    small = {"seeds": [0], "setting": ["table", "cost"], "scratch": folder, "out": folder}
    return argparse.Namespace(**{**vars(wanted), **small})


def main() -> None:
    wanted = arguments()
    torch.set_num_threads(wanted.threads)
    decoded = wanted.scratch
    wanted = shortened(wanted) if wanted.quick else wanted
    for name in wanted.world:
        world = WORLDS[name](wanted.data, decoded)
        world = quick(world) if wanted.quick else world
        cells = Cells(wanted.out / f"transplant-{name}.json", "make bench-transplant DATA=FOLDER", TransplantRecipe())
        if not wanted.report:
            with watching() as watch:
                watch.say(world.title)
                measure(world, wanted, cells, watch)
                measure_costs(world, wanted, cells, watch)
        write(world, cells, wanted.out, missing(world, cells))
        Console().print(f"written: {wanted.out / f'transplant-{name}.md'}")


if __name__ == "__main__":
    main()

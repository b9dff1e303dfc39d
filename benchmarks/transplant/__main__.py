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
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console

from benchmarks.cells import Cells
from benchmarks.running import Watch, parser, watching
from benchmarks.transplant.jobs import Job, Standing, jobs, on_their_nets
from benchmarks.transplant.measuring import Bench
from benchmarks.transplant.protocol import COSTS, SEEDS
from benchmarks.transplant.report import write
from benchmarks.transplant.worlds import WORLDS
from benchmarks.transplant.worlds.base import Task, World
from benchmarks.transplant.zoo import Nets, Zoo
from graftery.learning.loop import Progress
from graftery.spec.recipes import TransplantRecipe


def measure(world: World, wanted: argparse.Namespace, cells: Cells, watch: Watch) -> None:
    """Measure what is not there yet, or not of the protocol and the nets as they are."""
    zoo = Zoo(world, wanted.scratch / "nets", watch.say)
    last: dict[tuple[Nets, Task], Bench] = {}  # the rows of a cell follow each other, on the same nets

    def one(job: Job, _tell: Callable[[Progress], None]) -> dict[str, Any]:
        of = (job.nets, job.task)
        if of not in last:
            last.clear()
            last[of] = Bench.of(zoo, *of)
        return job.measure(last[of])

    planned = on_their_nets(list(jobs(world, wanted)), zoo, cells, watch, again=wanted.again)
    watch.measure(planned, cells, one, again=wanted.again)


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
    made.add_argument("--again", action="store_true", help="measure also what was measured")
    made.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    made.add_argument("--threads", type=int, default=1)
    return made.parse_args()


def shortened(wanted: argparse.Namespace) -> argparse.Namespace:
    """What is wanted, small: one seed, the table only, all of it into a folder in --scratch. The data stay where they are."""
    folder = wanted.scratch / "quick"
    small = {"seeds": [0], "setting": ["table", COSTS], "scratch": folder, "out": folder}
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
        write(world, cells, wanted.out, Standing.of(world, cells))
        Console().print(f"written: {wanted.out / f'transplant-{name}.md'}")


if __name__ == "__main__":
    main()

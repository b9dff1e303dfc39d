"""The cells of the protocol: what each is a cell of, and what it depends on.

A cell whose recipes, or what its nets learned by, are not those of the protocol as it is counts as not measured; nor does one that is of
other nets than those that lie in the scratch folder, once these are looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.cells import Cells
from benchmarks.running import Watch
from benchmarks.transplant.costs import COST_TURNS, cost
from benchmarks.transplant.digests import digest
from benchmarks.transplant.measuring import Bench
from benchmarks.transplant.protocol import COSTS, DEFAULT, REFERENCES, SEEDS, Row, Setting, key_of, settings
from benchmarks.transplant.worlds.base import Task, World
from benchmarks.transplant.zoo import Nets, Zoo
from graftery.spec.plan import complete
from graftery.spec.recipes import TransplantRecipe

EVERYTHING = argparse.Namespace(setting=None, seeds=SEEDS, rows=None)
"""Wanted: the whole protocol."""


@dataclass(frozen=True)
class Job:
    """One cell to be measured.

    Args:
        seed: of the nets and the recipe.
        digests: of the nets' parts; None: nobody looked at them yet.
    """

    world: World
    setting: Setting
    seed: int
    target: str
    task: Task
    row: Row
    digests: Mapping[str, str] | None = None

    @property
    def names(self) -> dict[str, Any]:
        """Where the cell stands on the page."""
        of = {"setting": self.setting.name, "target": self.target, "task": self.task.output}
        return {**of, "seed": self.seed, "row": self.row.name}

    @property
    def key(self) -> str:
        return key_of(self.names)

    @property
    def where(self) -> dict[str, Any]:
        of = {**self.names, "learned_by": digest(*self.nets.learned_by(self.world)), "recipe": self._recipe()}
        return of if self.digests is None else {**of, "nets": dict(self.digests)}

    @property
    def nets(self) -> Nets:
        """What it is measured on."""
        return self.setting.nets(self.world, self.target, self.seed)

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Its figures."""
        return {"metrics": bench.references()} if self.row is REFERENCES else bench.cell(self.row)

    @property
    def recipes(self) -> tuple[TransplantRecipe, ...]:
        """All that are tried, complete but for what only the nets tell."""
        row, dense = self.row, self.world.dense and self.task == self.world.tasks[0]
        given = {"unlabelled": row.unlabelled, "sketch": row.sketched, "crops": row.crops > 0}
        # All nets of the worlds have batch norm.
        given |= {"teacher_task": True, "batch_norm": True, "dense": dense, "image_input": True}
        tried = () if row is REFERENCES else row.recipes(self.seed, self.task.augment)
        return tuple(complete(recipe, labels=row.labels, **given) for recipe in tried)

    def _recipe(self) -> str:
        """Of the recipes, and of what they are given beside labels."""
        given = [self.row.unlabelled, self.row.sketched, self.row.crops]
        return digest(given, *(recipe.model_dump(mode="json") for recipe in self.recipes))


@dataclass(frozen=True)
class Cost(Job):
    """A turn of a transplant beside its teacher."""

    turn: int = 0

    @property
    def names(self) -> dict[str, Any]:
        return {"setting": COSTS, "target": self.target, "task": "", "seed": self.turn, "row": "cost"}

    def measure(self, bench: Bench) -> dict[str, Any]:
        return cost(bench, self.row.recipes(self.seed, self.task.augment)[0])


def jobs(world: World, wanted: argparse.Namespace = EVERYTHING) -> Iterator[Job]:
    """All cells in order: the table first, seed by seed, so that what is there at any time is worth looking at; costs last."""
    for setting in settings(world.dense, quick=world.quick):
        if wanted.setting and setting.name not in wanted.setting:
            continue
        if (setting.depth and setting.depth not in world.cuts) or setting.tasks > len(world.tasks):
            continue
        for seed in wanted.seeds:
            for index, target in enumerate(setting.targets(world)):
                rows = [
                    row for row in (REFERENCES, *setting.rows) if index % row.every == 0 and _is_wanted(row, wanted)
                ]
                for task in world.tasks[: setting.tasks]:
                    yield from (Job(world, setting, seed, target, task, row) for row in rows)
    yield from _costs(world, wanted)


def _costs(world: World, wanted: argparse.Namespace) -> Iterator[Job]:
    """What a transplant costs beside its teacher, a few times, teacher and transplant in turns."""
    if (
        world.schedule is None
        or (wanted.setting and COSTS not in wanted.setting)
        or wanted.rows
        or 0 not in wanted.seeds
    ):
        return
    table = settings(world.dense, quick=world.quick)[0]
    row = next(row for row in table.rows if row.name == DEFAULT)
    for target in world.targets[:2]:
        for turn in range(COST_TURNS):
            yield Cost(world, table, 0, target, world.tasks[0], row, turn=turn)


def _is_wanted(row: Row, wanted: argparse.Namespace) -> bool:
    return not wanted.rows or any(fnmatchcase(row.name, pattern) for pattern in wanted.rows)


def on_their_nets(planned: Sequence[Job], zoo: Zoo, kept: Cells, watch: Watch, *, again: bool = False) -> list[Job]:
    """The same jobs with the digests of their nets, which are trained if they are not there.

    Nets that are gone are not missed where all of their cells are of the protocol as it is.
    """
    of: dict[tuple[Nets, Task], list[Job]] = {}
    for job in planned:
        of.setdefault((job.nets, job.task), []).append(job)
    found: dict[tuple[Nets, Task], Mapping[str, str]] = {}
    line = watch.bar.add_task("nets", total=len(of))
    for wait in (False, True):  # what another process trains comes last, and is waited for
        for (nets, task), theirs in list(of.items()):
            with kept.claimed(f"nets {digest(astuple(nets))}", wait=wait) as ours:
                if not ours:
                    continue
                watch.bar.update(line, description=f"nets of {nets.target}, seed {nets.seed}")
                if again or zoo.has(nets) or not all(kept.has(job.key, job.where) for job in theirs):
                    found[nets, task] = Bench.of(zoo, nets, task).digests
            del of[nets, task]
            watch.bar.advance(line)
    return [replace(job, digests=found.get((job.nets, job.task))) for job in planned]


@dataclass(frozen=True)
class Standing:
    """How far the protocol is measured.

    Args:
        missing: cells that were never measured.
        current: keys of cells of the protocol's recipes, and of nets that learned by what it says.
        older: of the other ones, those that do not say of which they are among them.
    """

    missing: int = 0
    current: frozenset[str] = frozenset()
    older: frozenset[str] = frozenset()

    @classmethod
    def of(cls, world: World, kept: Cells) -> Standing:
        """What is there of cells that the protocol does not have is left aside."""
        planned = list(jobs(world))
        there = {job.key for job in planned if kept.has(job.key)}
        current = frozenset(job.key for job in planned if kept.has(job.key, job.where))
        return cls(len(planned) - len(there), current, frozenset(there - current))

    @property
    def marked(self) -> frozenset[str]:
        """Of the older ones, those that stand beside others: where all are, there is nothing to tell apart."""
        return self.older if self.current else frozenset()

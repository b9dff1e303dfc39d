"""The benchmark of transplants: what a cell is a cell of, and when it is measured again."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import Cells
from benchmarks.running import Watch, watching
from benchmarks.transplant import jobs as jobs_module
from benchmarks.transplant.jobs import Cost, Job, Standing, jobs, on_their_nets
from benchmarks.transplant.measuring import Bench
from benchmarks.transplant.protocol import REFERENCES, settings
from benchmarks.transplant.worlds import WORLDS
from benchmarks.transplant.worlds.base import World
from benchmarks.transplant.zoo import Nets, Zoo
from graftery.spec.recipes import TransplantRecipe

DIGESTS = {"f": "1", "gS": "2", "gT": "3"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return WORLDS["cifar10"](None, tmp_path)


@pytest.fixture
def kept(tmp_path: Path) -> Cells:
    return Cells(tmp_path / "cells.json", "make it", TransplantRecipe())


@pytest.fixture
def watch() -> Iterator[Watch]:
    with watching() as made:
        yield made


def _of(world: World, row: str, output: str = "is") -> Job:
    return next(job for job in jobs(world) if job.row.name == row and job.task.output == output)


def _put(kept: Cells, *done: Job) -> None:
    for job in done:
        kept.put(job.key, job.where)


def test_a_cell_says_its_recipe_what_its_nets_learned_by_and_once_they_are_there_which_they_are(world: World) -> None:
    job = _of(world, "default, 0")
    assert job.where.keys() == {"setting", "target", "task", "seed", "row", "learned_by", "recipe"}
    assert replace(job, digests=DIGESTS).where == {**job.where, "nets": DIGESTS}


@pytest.mark.parametrize("row", ["default, 0", "direct-learn, 100", "unlabelled images, 0"])
def test_a_recipe_that_is_another_one_is_another_cell(world: World, kept: Cells, row: str) -> None:
    job = _of(world, row)
    _put(kept, job)
    assert kept.has(job.key, job.where)
    other = replace(job, row=replace(job.row, recipe={**job.row.recipe, "temperature": 1.0}))
    assert other.key == job.key and not kept.has(other.key, other.where)
    given = replace(job, row=replace(job.row, unlabelled=not job.row.unlabelled))
    assert not kept.has(given.key, given.where)


def test_a_default_that_changed_is_another_recipe(world: World, kept: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _of(world, "default, 0")
    _put(kept, job)
    monkeypatch.setattr("graftery.spec.plan.DEFAULT_OBJECTIVES", {"distillation": 1.0})
    assert not kept.has(job.key, job.where)


def test_an_augmentation_of_a_task_is_part_of_its_recipes(world: World, kept: Cells) -> None:
    job = _of(world, "direct-learn, 100", "rotation")
    _put(kept, job)
    flipped = replace(job, task=replace(job.task, augment=world.tasks[0].augment))
    assert not kept.has(flipped.key, flipped.where)


@pytest.mark.parametrize("row", [REFERENCES.name, "default, 0"])
def test_nets_that_learned_by_something_else_make_another_cell(world: World, kept: Cells, row: str) -> None:
    job = _of(world, row)
    cost = next(job for job in jobs(world) if isinstance(job, Cost))
    _put(kept, job, cost)
    assert kept.has(job.key, job.where) and kept.has(cost.key, cost.where)
    world.schedule = replace(world.schedule, steps=7)  # type: ignore[type-var]
    assert not kept.has(job.key, job.where) and not kept.has(cost.key, cost.where)


class Shelf:
    """A zoo that says which nets are there, and Benches that have digests alone."""

    def __init__(self, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there, self.asked, self.digests = there, [], dict(DIGESTS)
        monkeypatch.setattr(jobs_module.Bench, "of", self._bench)

    asked: list[Nets]

    def has(self, nets: Nets) -> bool:
        return self.there

    def _bench(self, zoo: Zoo, nets: Nets, task: Any) -> Bench:
        self.asked.append(nets)
        return type("Bench", (), {"digests": self.digests})()


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Any]:
    return lambda there: Shelf(there, monkeypatch)


def test_a_cell_of_other_nets_is_measured_again(
    world: World, kept: Cells, watch: Watch, shelf: Callable[[bool], Any]
) -> None:
    planned = [_of(world, REFERENCES.name), _of(world, "default, 0")]
    zoo = shelf(True)
    _put(kept, *on_their_nets(planned, zoo, kept, watch))
    assert len(zoo.asked) == 1  # both are of the same nets
    assert all(kept.has(job.key, job.where) for job in on_their_nets(planned, zoo, kept, watch))
    zoo.digests = {**DIGESTS, "gT": "another"}
    later = on_their_nets(planned, zoo, kept, watch)
    assert [job.row for job in later] == [job.row for job in planned]
    assert not any(kept.has(job.key, job.where) for job in later)


def test_nets_that_another_process_trains_come_last(
    world: World, kept: Cells, watch: Watch, shelf: Callable[[bool], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = [job for job in jobs(world) if job.row is REFERENCES and job.seed == 0][:3]
    asked: list[bool] = []

    @contextmanager
    def claimed(key: str, *, wait: bool = False) -> Iterator[bool]:
        asked.append(wait)
        yield wait or len(asked) != 1

    monkeypatch.setattr(kept, "claimed", claimed)
    zoo = shelf(False)
    later = on_their_nets(planned, zoo, kept, watch)
    assert asked == [False, False, False, True]
    assert [nets.target for nets in zoo.asked] == [planned[at].target for at in (1, 2, 0)]
    assert [job.target for job in later] == [job.target for job in planned] and all(job.digests for job in later)


def test_nets_that_are_gone_are_trained_again_only_for_what_is_missing(
    world: World, kept: Cells, watch: Watch, shelf: Callable[[bool], Any]
) -> None:
    done, missing = _of(world, "default, 0"), _of(world, "default, 100")
    _put(kept, replace(done, digests=DIGESTS))
    zoo = shelf(False)
    (job,) = on_their_nets([done], zoo, kept, watch)
    assert not zoo.asked and kept.has(job.key, job.where)
    on_their_nets([done, missing], zoo, kept, watch)
    assert len(zoo.asked) == 1
    on_their_nets([done], zoo, kept, watch, again=True)
    assert len(zoo.asked) == 2


def test_cells_that_do_not_say_what_they_are_of_are_there_and_older(world: World, kept: Cells) -> None:
    whole = list(jobs(world))
    silent, told, cost = (
        _of(world, "default, 0"),
        _of(world, "default, 10"),
        next(j for j in whole if isinstance(j, Cost)),
    )
    for job in (silent, cost):
        kept.put(job.key, job.names)
    _put(kept, replace(told, digests=DIGESTS))
    kept.put("table/dragon/is/0/default, 0", {"setting": "table"})  # of no part of the protocol
    standing = Standing.of(world, kept)
    assert standing.missing == len(whole) - 3
    assert standing.older == {silent.key, cost.key} == standing.marked
    assert standing.current == {told.key}
    assert not replace(standing, current=frozenset()).marked


def test_costs_are_cells_as_any_other_and_of_the_first_seeds_nets(world: World) -> None:
    found = [job for job in jobs(world) if isinstance(job, Cost)]
    assert [job.key for job in found[:4]] == ["cost/cat/0", "cost/cat/1", "cost/cat/2", "cost/frog/0"]
    assert {job.nets.seed for job in found} == {0}
    others = argparse.Namespace(setting=None, seeds=[1, 2], rows=None)
    assert not any(isinstance(job, Cost) for job in jobs(world, others))


def test_a_quick_run_has_recipes_of_its_own(world: World) -> None:
    job = _of(world, "direct-learn, 100")
    world.quick = True
    short = _of(world, "direct-learn, 100")
    assert short.key == job.key and short.where["recipe"] != job.where["recipe"]
    rows = settings(world.dense, quick=True)[0].rows
    assert max(recipe.steps for row in rows for recipe in row.recipes(0, world.tasks[0].augment)) <= 20
    assert all(len(row.chosen) in (0, 2) for row in rows)

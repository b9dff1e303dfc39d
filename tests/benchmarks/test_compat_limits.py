"""Where a recombination's rest is lost, on the digits."""

from __future__ import annotations

import statistics

import pytest
import torch

from benchmarks.compat.limits import anew, limits
from graftery.compat import Task, found, recombine, train
from graftery.compat.recombination import accuracy
from graftery.data import SampleSet
from graftery.module import ModuleFile
from graftery.spec.recipes import CompatRecipe
from tests.support import compatible

RECIPE = CompatRecipe(epochs=4, batch=32)
COMMON = 4


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [compatible.task(name, (3, 4, 5, 6, *rest), most=600) for name, rest in (("a", (0, 1, 2)), ("b", (7, 8, 9)))]


@pytest.fixture(scope="module")
def parts(tasks: list[Task]) -> tuple[dict[str, ModuleFile], dict[str, ModuleFile]]:
    group = found(compatible.DESIGN, ("IIW", "DCC"), tasks[0].train.x[:2], common=compatible.COMMON)
    members = train(tasks, group, RECIPE).members
    heads = {name: member.head for name, member in members.items() if member.head is not None}
    return {name: member.extractor for name, member in members.items()}, heads


@pytest.fixture(scope="module")
def told(tasks: list[Task], parts: tuple[dict[str, ModuleFile], dict[str, ModuleFile]]) -> dict[str, float]:
    return limits(tasks, *parts, COMMON, RECIPE)


def _of(task: Task, *, common: bool) -> SampleSet:
    assert task.test is not None and task.test.y is not None
    rows = (task.test.y < COMMON) == common
    return SampleSet(task.test.x[rows], task.test.y[rows])


def test_accuracies_are_of_common_and_of_other_classes(
    tasks: list[Task], parts: tuple[dict[str, ModuleFile], dict[str, ModuleFile]], told: dict[str, float]
) -> None:
    extractors, heads = parts
    for part, common in (("common", True), ("others", False)):
        own, joined = (
            statistics.mean(accuracy(extractors[other[t.name]], heads[t.name], _of(t, common=common)) for t in tasks)
            for other in ({"a": "a", "b": "b"}, {"a": "b", "b": "a"})
        )
        assert (told[f"{part}_own"], told[f"{part}_joined"]) == pytest.approx((own, joined))
    assert told["others_joined"] < told["common_joined"], "an extractor has never seen the other task's own classes"


def test_a_head_learned_anew_finds_more_than_one_that_is_joined(
    tasks: list[Task], parts: tuple[dict[str, ModuleFile], dict[str, ModuleFile]], told: dict[str, float]
) -> None:
    joined = recombine(*parts, {task.name: task.test for task in tasks if task.test is not None}).recombined
    assert joined + 5 < told["anew"] < 105


def test_the_extractor_is_not_touched_and_the_seed_says_all(
    tasks: list[Task], parts: tuple[dict[str, ModuleFile], dict[str, ModuleFile]]
) -> None:
    extractor = parts[0]["a"]
    before = extractor.content_digest
    first, again = (anew(tasks[1], extractor, RECIPE).state_dict() for _ in range(2))
    assert extractor.content_digest == before
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_where_all_classes_are_common_there_are_no_others(
    tasks: list[Task], parts: tuple[dict[str, ModuleFile], dict[str, ModuleFile]]
) -> None:
    told = limits(tasks, *parts, 7, RECIPE.model_copy(update={"epochs": 1}))
    assert set(told) == {"anew", "common_own", "common_joined"}

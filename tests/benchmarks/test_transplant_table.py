"""The benchmark of transplants: what it keeps, how it resumes, what its page says. The figures are its own affair."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from benchmarks.cells import Cells
from benchmarks.transplant import __main__ as main_module
from benchmarks.transplant import costs, measuring
from benchmarks.transplant.jobs import Job, jobs
from benchmarks.transplant.measuring import Bench
from benchmarks.transplant.plots import draw
from benchmarks.transplant.protocol import Row, Variant, rows, settings
from benchmarks.transplant.report import interval, page
from benchmarks.transplant.worlds import WORLDS, camvid, cifar10
from benchmarks.transplant.worlds.base import World
from benchmarks.transplant.worlds.learning import Staged, share_above
from benchmarks.transplant.zoo import Zoo
from graftery.spec.recipes import AugmentRecipe, TransplantRecipe


@pytest.fixture
def world(tmp_path: Path) -> World:
    return WORLDS["digits"](None, tmp_path)


@pytest.mark.parametrize("name", WORLDS)
def test_every_row_is_a_recipe_and_every_cell_has_its_own_key(name: str, tmp_path: Path) -> None:
    world = WORLDS[name](None, tmp_path)
    todo = list(jobs(world))
    assert len({job.key for job in todo}) == len(todo) > 60
    for job in todo:
        assert all(recipe.seed == job.seed for recipe in job.row.recipes(job.seed, job.task.augment))
    assert not set(world.targets) & set(world.generic)
    assert world.unseen <= set(world.targets)


def test_images_are_changed_as_leaves_the_labels_of_their_task_true() -> None:
    row = next(row for row in rows(dense=False) if row.name == "direct-learn, 100")
    turned, plain = (
        row.recipes(0, next(task.augment for task in WORLDS["cifar10"].tasks if task.output == output))
        for output in ("rotation", "is")
    )
    assert not any(recipe.augment.flip for recipe in turned)  # it would swap two of the labels
    assert any(recipe.augment.flip for recipe in plain)
    assert WORLDS["camvid"].tasks[0].augment == AugmentRecipe(shift=4, flip=True)


@pytest.mark.parametrize("dense", [False, True])
def test_direct_learn_chooses_with_and_without_augmentation_and_its_longest_is_augmented(dense: bool) -> None:
    row = next(row for row in rows(dense) if row.name == "direct-learn, 100")
    none, some = AugmentRecipe(shift=0), AugmentRecipe(shift=3, flip=True)
    recipes = row.recipes(0, some)
    assert {recipe.augment for recipe in recipes} == {none, some}
    assert max(recipes, key=lambda recipe: recipe.steps).augment == some
    assert sum(recipe.steps for recipe in recipes) <= (4000 if dense else 5000)


def test_what_learns_from_labels_alone_is_not_ended_by_noise() -> None:
    row = next(row for row in rows(dense=False) if row.name == "direct + distillation, 100")
    assert all(recipe.stop.patience == 0 for recipe in row.recipes(0, AugmentRecipe()))


def test_cells_are_kept_at_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cells.json"
    cells = Cells(path, "make it", TransplantRecipe())
    cells.put("a/b", {"row": "a", "metrics": {"iou": 0.5}})
    cells.put("a/a", {"row": "b"})
    again = Cells(path, "make it", TransplantRecipe())
    assert again.has("a/b") and not again.has("a/c")
    assert [cell["row"] for cell in again] == ["b", "a"]  # in the order of their keys, so that files differ little
    assert again.facts["machine"]["torch"] and again.facts["command"] == "make it"
    assert json.loads(path.read_text())["cells"]["a/b"] == {"row": "a", "metrics": {"iou": 0.5}}


def test_the_interval_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert (low, high) == pytest.approx((0.4458, 4.5542), abs=1e-3)


def _cell(row: str, seed: int, value: float, target: str = "3") -> dict[str, Any]:
    where = {"setting": "table", "target": target, "task": "is", "seed": seed, "row": row}
    metrics = {"balanced_accuracy": value, "accuracy": value, "auc": value}
    if row == "references":
        return {**where, "metrics": {"teacher": metrics, "identity": dict.fromkeys(metrics, 0.5)}}
    return {**where, "metrics": metrics, "kappa": 0.9, "seconds": 1.0, "steps": 100, "objectives": {}, "sources": []}


def test_the_page_has_means_spread_and_paired_differences(world: World) -> None:
    found = [_cell("references", 0, 0.90), _cell("references", 1, 0.92)]
    found += [_cell("default, 0", 0, 0.91), _cell("default, 0", 1, 0.92)]
    facts = {"command": "make it", "machine": dict.fromkeys(MACHINE, "x")}
    text = page(world, found, facts, [("a.svg", "a plot")])
    assert "| teacher | - | - | 9.00 ± 1.41 | **9.00** | - | - |" in text
    assert "| default, 0 | distillation, Jacobian | default | 8.50 ± 0.71 | **8.50** | 100 | 1.0 |" in text
    assert "| default, 0 − teacher | +0.50 | -5.85 to +6.85 | 2 |" in text
    assert "direct-learn, 10 " not in text  # no cell, no line
    assert "![a plot](a.svg)" in text and "seeds 0, 1" in text


def test_the_page_says_how_many_targets_a_mean_is_of_and_what_agreement_tells(world: World) -> None:
    found = [_cell("references", 0, 0.90, target) for target in ("3", "8")]
    found += [_cell("default, 0", 0, 0.91), *(_cell("default, 100", 0, 0.8, target) for target in ("3", "8"))]
    for index, kappa in enumerate((0.9, 0.4, 0.5)):
        found[2 + index] |= {"kappa": kappa, "objectives": {"distillation": 4.0}}
    text = page(world, found, {"command": "make it", "machine": dict.fromkeys(MACHINE, "x")}, [])
    assert "| default, 0 (targets: 1) | 91.00 | 91.00 | 91.00 |" in text
    assert "| default, 100 | 80.00 | 80.00 | 80.00 |" in text
    assert "rank correlation 0.87 (all, 3 runs), 0.87 (without labels, 3 runs)." in text


def test_losses_and_agreement_along_the_training_are_drawn_where_they_were_kept(world: World, tmp_path: Path) -> None:
    cell = _cell("default, 0", 0, 0.9)
    assert draw(world, [cell], tmp_path) == []
    cell |= {"curve": [[1, 2.0], [20, 1.0]], "agreements": [[20, 0.5], [40, 0.8]]}
    assert [file for file, _ in draw(world, [cell], tmp_path)] == [
        f"transplant-{world.name}-{what}.svg" for what in ("losses", "agreement")
    ]


def test_a_quick_run_of_several_worlds_has_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    seen: list[tuple[Path, Path]] = []
    monkeypatch.setattr("sys.argv", ["it", "--quick", "--scratch", str(tmp_path), "--world", "digits", "cifar10"])
    monkeypatch.setattr(main_module, "measure", lambda world, wanted, *_: seen.append((world.scratch, wanted.scratch)))
    for made in WORLDS.values():
        monkeypatch.setattr(made, "targets", made.targets)
    main_module.main()
    assert set(seen) == {(tmp_path, tmp_path / "quick")}


MACHINE = ("cores", "processor", "accelerator", "threads", "python", "torch", "graftery")


@pytest.mark.slow
def test_a_cell_is_a_transplant_of_nets_that_are_trained_once(world: World, tmp_path: Path) -> None:
    said: list[str] = []
    zoo = Zoo(world, tmp_path / "nets", said.append)
    nets = settings(world.dense)[0].nets(world, "3", 0)
    bench = Bench.of(zoo, nets, world.tasks[0])
    chosen = (Variant(0.02, 0), Variant(0.02, 30))
    row = Row("few", "direct", "labelled", {"objectives": {"direct": 1.0}}, 40, chosen=chosen)
    cell = bench.cell(row)
    assert cell["sources"] == ["samples"] and cell["chosen"]["steps"] in (0, 30)
    references = bench.references()
    assert references["teacher"]["balanced_accuracy"] > 0.9
    assert bench.cell(row)["metrics"] == cell["metrics"]
    assert bench.cell(dataclasses.replace(row, chosen=chosen[:1]))["steps"] == 0
    job = Job(world, settings(world.dense)[0], 0, "3", world.tasks[0], row)
    made, _ = bench._learn(row, row.recipes(0, world.tasks[0].augment)[0])
    assert job.recipes[0].model_dump(exclude={"adapter"}) == made.recipe.model_dump(exclude={"adapter"})
    again = Bench.of(Zoo(world, tmp_path / "nets", said.append), nets, world.tasks[0])
    assert again.digests == bench.digests and again.digests.keys() == {"f", "gS", "gT"}
    assert len(said) == 2  # one teacher, one generic net


def _told(phase: str, *steps: int) -> list[dict[str, Any]]:
    return [{"phase": phase, "step": step, "loss": float(step)} for step in steps]


def test_students_of_an_inversions_rounds_are_no_part_of_the_training(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = [*_told("inversion", 50), *_told("train", 100, 200), *_told("train", 4, 200), *_told("train", 20, 40)]
    made = SimpleNamespace(
        adapter=None, recipe=TransplantRecipe(), history=history, metrics={"agreement": None, "steps": 40}
    )
    monkeypatch.setattr(measuring, "transplant", lambda *_, **__: made)
    monkeypatch.setattr(Bench, "metrics", lambda *_: {})
    bench = Bench(world, "3", 0, None, None, None, world.tasks[0])  # type: ignore[arg-type]
    cell = bench.cell(Row("default, 0", "", ""))
    assert cell["steps"] == 40
    assert cell["curve"] == [[20, 20.0], [40, 40.0]]
    assert measuring.curve(_told("train", 1, 2)) == [[1, 1.0], [2, 2.0]]


def test_the_first_steps_of_a_process_are_no_part_of_a_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = cifar10.Cifar10(None, tmp_path)
    seconds = iter((30.0, 3.0, 30.0, 3.0))
    trained: list[int] = []

    def teacher(*_: Any) -> SimpleNamespace:
        trained.append(world.schedule.steps)
        return SimpleNamespace(seconds=next(seconds))

    monkeypatch.setattr(world, "teacher", teacher)
    learn = Mock(side_effect=lambda *_, inversions, **__: inversions.images("a", lambda: torch.zeros(2)))
    monkeypatch.setattr(costs, "transplant", learn)
    bench = Bench(world, "cat", 0, None, None, None, world.tasks[0])  # type: ignore[arg-type]
    assert costs.cost(bench, TransplantRecipe())["teacher_seconds"] == 120
    assert trained == [60, 60] and world.schedule.steps == 2400
    assert learn.call_count == 2, "one that makes the images of its inversion, one that finds them"
    learn.side_effect = None
    with pytest.raises(RuntimeError, match="made again"):
        costs.cost(bench, TransplantRecipe())


@pytest.mark.parametrize("made", [cifar10.Net, camvid.Net])
def test_a_generic_net_shares_what_is_above_the_cut_and_nothing_below(made: type[Staged]) -> None:
    output = "is" if made is cifar10.Net else "mask"
    nets = [made([output]) for _ in range(3)]
    first = [net.stages[0] for net in nets]
    own = share_above(nets, "stages.1")
    assert own == 2
    for net, stage in zip(nets, first, strict=True):
        assert net.heads is nets[0].heads and net.stages[0] is stage
        assert all(a is b for a, b in zip(net.stages[own:], nets[0].stages[own:], strict=True))
    assert len({id(stage) for stage in first}) == 3


@pytest.mark.parametrize("module", [cifar10, camvid], ids=["cifar10", "camvid"])
def test_images_are_decoded_into_a_whole_file_or_none(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {f"{split}.{name}": np.zeros(2, np.int64) for split in ("train", "validation", "test") for name in "xy"}
    monkeypatch.setattr(module, "_decoded", lambda _: arrays)

    def cut_short(file: Any, **_: Any) -> None:
        file.write(b"PK")
        file.flush()
        assert not list(tmp_path.glob("*.npz"))  # what another process would take for whole
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "savez", cut_short)
        module._read(None, tmp_path)
    assert not list(tmp_path.iterdir())
    assert module._read(None, tmp_path)["test"][1].tolist() == [0, 0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]

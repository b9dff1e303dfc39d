"""The page of the benchmark of transplants: what it compares, marks and leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.cells import Cells
from benchmarks.transplant import plots
from benchmarks.transplant.jobs import Standing, jobs
from benchmarks.transplant.protocol import key_of
from benchmarks.transplant.reading import agreeing
from benchmarks.transplant.report import page, write
from benchmarks.transplant.worlds import WORLDS, camvid, cifar10
from benchmarks.transplant.worlds.base import World
from examples import digits
from graftery.spec.recipes import TransplantRecipe

FACTS = {
    "command": "make it",
    "machine": dict.fromkeys(("cores", "processor", "accelerator", "threads", "python", "torch", "graftery"), "x"),
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return WORLDS["camvid"](None, tmp_path)


def _cell(row: str, value: float, target: str = "car", seed: int = 0, **more: Any) -> dict[str, Any]:
    metrics = {"iou": value, "pixel_accuracy": value, "balanced_accuracy": value, "accuracy": value, "auc": value}
    where = {"setting": "table", "target": target, "task": "mask", "seed": seed, "row": row}
    if row == "references":
        return {**where, "metrics": {"teacher": metrics, "identity": metrics}, **more}
    return {**where, "metrics": metrics, "kappa": None, "objectives": {"distillation": 4.0}, **more}


def _line(text: str, begin: str) -> str:
    return next((line for line in text.splitlines() if line.startswith(f"| {begin} |")), "")


def test_differences_are_of_cells_of_the_same_nets_only(world: World) -> None:
    one, other = {"f": "1", "gS": "2", "gT": "3"}, {"f": "1", "gS": "2", "gT": "4"}
    found = [_cell("references", 0.6, seed=seed, nets=one) for seed in range(4)]
    found += [_cell("default, 0", 0.5, seed=seed, nets=one) for seed in range(2)]
    found += [_cell("default, 0", 0.1, seed=2, nets=other), _cell("default, 0", 0.1, seed=3)]
    assert _line(page(world, found, FACTS, []), "default, 0 − teacher").endswith("| -10.00 | -10.00 to -10.00 | 2 |")


def test_cells_that_say_no_nets_are_compared_with_each_other(world: World) -> None:
    found = [
        _cell(row, value, seed=seed) for row, value in (("references", 0.6), ("default, 0", 0.5)) for seed in (0, 1)
    ]
    assert _line(page(world, found, FACTS, []), "default, 0 − teacher").endswith("| 2 |")


def test_what_is_of_another_protocol_is_counted_and_marked_where_something_is_not(world: World) -> None:
    found = [_cell(row, 0.5, seed=seed) for row in ("references", "default, 0", "default, 10") for seed in (0, 1)]
    keys = frozenset(map(key_of, found))
    older = frozenset(key for key in keys if key.endswith("default, 0"))
    text = page(world, found, FACTS, [], Standing(5, keys - older, older))
    assert "† **2 of 6 cells are of nets or recipes that are not those of the protocol now, or do not say" in text
    assert "**5 cells of the protocol are not measured yet**" in text
    assert _line(text, "default, 0 †") and _line(text, "default, 10") and _line(text, "teacher")
    assert _line(text, "default, 0 − teacher †") and _line(text, "default, 10 − default, 0 †")
    whole = page(world, found, FACTS, [], Standing(0, frozenset(), keys))
    assert "**6 of 6 cells" in whole and "†" not in whole
    assert "protocol now" not in page(world, found, FACTS, [], Standing(0, keys))


def test_what_the_protocol_does_not_have_is_not_on_the_page(world: World, tmp_path: Path) -> None:
    kept = Cells(tmp_path / "cells.json", "make it", TransplantRecipe())
    for cell in (_cell("references", 0.5), _cell("references", 0.5, "dragon")):
        kept.put(key_of(cell), cell)
    write(world, kept, tmp_path, Standing.of(world, kept))
    text = (tmp_path / "transplant-camvid.md").read_text()
    assert "**1 of 1 cells" in text and "dragon" not in text


def test_differences_are_told_without_targets_that_the_teacher_has_not_learned_too(world: World) -> None:
    found = [_cell("references", value, target) for target, value in (("car", 0.6), ("tree", 0.5), ("bicyclist", 0.03))]
    found += [_cell("default, 0", 0.5, target) for target in ("car", "tree", "bicyclist")]
    told = page(world, found, FACTS, []).split("The same without bicyclist")
    assert _line(told[0], "default, 0 − teacher").endswith("| 3 |")
    assert "teacher's mean iou of 20 %" in told[1] and "| -5.00 |" in _line(told[1], "default, 0 − teacher")
    assert "The same without" not in page(world, [c for c in found if c["target"] != "bicyclist"], FACTS, [])


def test_one_value_has_no_deviation(world: World) -> None:
    text = page(
        world,
        [_cell("default, 0", 0.5), _cell("default, 0", 0.5, "tree"), _cell("default, 0", 0.7, "tree", 1)],
        FACTS,
        [],
    )
    assert "| default, 0 | distillation | default | 50.00 | 60.00 ± 14.14 |" in text


@pytest.mark.parametrize(("name", "marks"), [("digits", "3 ° | 8 °"), ("cifar10", "cat | frog | airplane * | ship *")])
def test_targets_are_marked_by_what_was_looked_at_while_the_method_was_chosen(
    name: str, marks: str, tmp_path: Path
) -> None:
    world = WORLDS[name](None, tmp_path)
    text = page(world, [_cell("default, 0", 0.5, target, task="is") for target in world.targets], FACTS, [])
    assert f"| {marks} |" in text
    assert ("never used in tuning: airplane, ship." in text) == (name == "cifar10")


def test_the_page_of_a_quick_run_says_so(world: World) -> None:
    text = page(world, [_cell("default, 0", 0.5)], FACTS, [])
    assert "of 5 recipes" in text and "A quick run" not in text
    world.quick = True
    short = page(world, [_cell("default, 0", 0.5)], FACTS, [])
    assert "of 2 recipes" in short and "**A quick run**" in short


@pytest.mark.parametrize("name", WORLDS)
def test_the_page_says_what_images_without_labels_are(name: str, tmp_path: Path) -> None:
    world = WORLDS[name](None, tmp_path)
    text = page(world, [_cell("default, 0", 0.5, world.targets[0], task=world.tasks[0].output)], FACTS, [])
    assert "Unlabelled images: " in text and "f learned from these" in text and "Nets learn in float32" in text
    if name != "digits":
        assert f"{world.learned_by(4, [world.tasks[0].output])['batch']} " in text  # of each category of a generic net


def test_each_section_says_its_nets(tmp_path: Path) -> None:
    world = WORLDS["cifar10"](None, tmp_path)
    found = [
        {**job.names, **_cell(job.row.name, 0.5), **job.names} for job in jobs(world) if job.row.name == "default, 0"
    ]
    text = page(world, [cell for cell in found if cell["setting"] != "cost"], FACTS, [])
    for known in ("bird, deer, dog and horse. f gives features of 48x8x8", "horse. f gives features of 48x8x8"):
        assert f"The generic net knows {known}." in text
    assert "f gives features of 32x8x8." in text
    assert (
        "The generic net knows dog and horse. f gives features of 48x8x8. Each task's adapter is learned by a transplant"
        in text
    )


@pytest.mark.parametrize(
    ("name", "net", "image"),
    [
        ("cifar10", lambda: cifar10.Net(["is"]), (3, 32, 32)),
        ("camvid", lambda: camvid.Net(["mask"]), (3, 96, 128)),
        ("digits", lambda: digits.Net(digits.category_module(), digits.task_module()), (1, 8, 8)),
    ],
)
def test_the_shapes_of_features_are_those_of_the_nets(
    name: str, net: Any, image: tuple[int, ...], tmp_path: Path
) -> None:
    world, made = WORLDS[name](None, tmp_path), net()
    for depth, layer in world.cuts.items():
        stages = made.stages[: int(layer.removeprefix("stages.")) + 1] if name != "digits" else made.category
        assert isinstance(stages, nn.Module)
        assert "x".join(map(str, stages(torch.zeros(1, *image)).shape[1:])) == world.features[depth]


def test_agreement_is_told_of_runs_that_asked_the_teacher() -> None:
    asked = {"kappa": 0.5}
    found = [
        _cell("references", 0.8),
        _cell("default, 0", 0.4, **asked),
        _cell("direct-learn, 100", 0.8, **asked | {"objectives": {"direct": 1.0}}),
        _cell("pseudo-gradient, 0", 0.8, **asked | {"objectives": {"pseudo_gradient": 1.0}}),
        _cell("default, 10", 0.8),
        _cell("default, 100", 0.8, **asked, nets={"f": "other"}),  # whose teacher is not there
    ]
    assert agreeing(found, "iou") == [(0.5, 0.5, False), (0.5, 1.0, False)]


def test_a_line_over_labels_joins_means_of_the_same_targets(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = [_cell("references", 0.6, target) for target in ("car", "tree")]
    found += [_cell("direct-learn, 100", value, target) for target, value in (("car", 0.5), ("tree", 0.1))]
    few = _cell("direct-learn, 10", 0.4)
    drawn: dict[str, list[Any]] = {}

    class Axes:
        def __getattr__(self, name: str) -> Any:
            return lambda *given, **named: drawn.setdefault(name, []).append((given, named))

    assert plots._labels(world, [*found, few], Axes())  # type: ignore[arg-type]
    assert drawn["plot"][0][0] == ([10, 100], [0.4, 0.5]) and drawn["set"][0][1]["ylabel"] == "iou, mean over car"
    assert not plots._labels(world, [*found, {**few, "target": "bicyclist"}], Axes())  # type: ignore[arg-type]
    drawn.clear()
    assert plots._labels(world, found, Axes())  # type: ignore[arg-type]
    assert drawn["set"][0][1]["ylabel"] == "iou, mean over targets"

"""The benchmark of transplants: what it keeps, how it resumes, what its page says. The figures are its own affair."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cells import Cells
from benchmarks.transplant import __main__ as main_module
from benchmarks.transplant.__main__ import jobs
from benchmarks.transplant.measuring import Bench
from benchmarks.transplant.plots import draw
from benchmarks.transplant.protocol import Row, settings
from benchmarks.transplant.report import interval, page
from benchmarks.transplant.worlds import WORLDS, camvid, cifar10
from benchmarks.transplant.worlds.base import World
from benchmarks.transplant.worlds.learning import Staged, share_above
from benchmarks.transplant.zoo import Zoo
from graftery.spec.recipes import TransplantRecipe


@pytest.fixture
def world(tmp_path: Path) -> World:
    return WORLDS["digits"](None, tmp_path)


class Wanted:
    setting = None
    rows = None
    seeds = (0, 1)


@pytest.mark.parametrize("name", WORLDS)
def test_every_row_is_a_recipe_and_every_cell_has_its_own_key(name: str, tmp_path: Path) -> None:
    world = WORLDS[name](None, tmp_path)
    todo = list(jobs(world, Wanted()))  # type: ignore[arg-type]
    assert len({job.key for job in todo}) == len(todo) > 60
    for row in {job.row.name: job.row for job in todo}.values():
        for variant in row.chosen:
            TransplantRecipe.model_validate({"labels": row.labels, **row.recipe, **variant})
    assert not set(world.targets) & set(world.generic)
    assert world.unseen <= set(world.targets)


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
        found[2 + index]["kappa"] = kappa
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
    for step in ("measure", "measure_costs"):
        monkeypatch.setattr(main_module, step, lambda world, wanted, *_: seen.append((world.scratch, wanted.scratch)))
    for made in WORLDS.values():
        monkeypatch.setattr(made, "targets", made.targets)
    main_module.main()
    assert set(seen) == {(tmp_path, tmp_path / "quick")}


MACHINE = ("cores", "processor", "accelerator", "threads", "python", "torch", "graftery")


@pytest.mark.slow
def test_a_cell_is_a_transplant_of_nets_that_are_trained_once(world: World, tmp_path: Path) -> None:
    said: list[str] = []
    zoo = Zoo(world, tmp_path / "nets", said.append)
    setting = settings(world.dense, world.augment)[0]
    bench = Bench.of(zoo, setting, "3", 0, world.tasks[0])
    chosen: tuple[dict[str, Any], ...] = ({"steps": 0}, {"steps": 30})
    row = Row("few", "direct", "labelled", {"objectives": {"direct": 1.0}, "learning_rate": 0.02}, 40, chosen=chosen)
    cell = bench.cell(row)
    assert cell["sources"] == ["samples"] and cell["chosen"]["steps"] in (0, 30)
    references = bench.references()
    assert references["teacher"]["balanced_accuracy"] > 0.9
    assert bench.cell(row)["metrics"] == cell["metrics"]
    assert bench.cell(dataclasses.replace(row, chosen=chosen[:1]))["steps"] == 0
    again = Bench.of(Zoo(world, tmp_path / "nets", said.append), setting, "3", 0, world.tasks[0])
    assert again.shared.content_digest == bench.shared.content_digest
    assert len(said) == 2  # one teacher, one generic net


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

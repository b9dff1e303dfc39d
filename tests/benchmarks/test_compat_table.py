"""The benchmark of compatible components: what is dealt, what is kept, what the page says. On random images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.cells import Cells
from benchmarks.compat import study
from benchmarks.compat.measuring import Bench, restated_on
from benchmarks.compat.protocol import METHODS, RECIPE, SEEDS, SETTINGS, Cell, cells
from benchmarks.compat.report import page, write
from benchmarks.transplant.worlds.cifar10 import CLASSES, Cifar10, normalised
from graftery.spec.recipes import CompatRecipe


class Images(Cifar10):
    """Random images, 30 a class and split."""

    def images_of(self, split: str) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(len(split))
        x = torch.randint(0, 256, (300, 3, 32, 32), generator=random, dtype=torch.uint8)
        return x, torch.arange(300) % 10


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch": 16})
    return Bench(Images(None, tmp_path), tmp_path / "nets", per_class=6, recipe=recipe)


def _of(key: str) -> Cell:
    return next(cell for cell in cells() if cell.key == key)


def test_every_cell_has_a_key_of_its_own() -> None:
    keys = [cell.key for cell in cells()]
    assert len(set(keys)) == len(keys) == 24 * 3 + 12 + 9 + 9


def test_what_is_measured_first_is_the_middle_split() -> None:
    depths = [cell.depth for cell in cells()]
    assert depths == sorted(depths, key=["middle", "early", "late"].index)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_tasks_share_the_common_classes_and_no_image(bench: Bench, setting: Any) -> None:
    tasks = bench.tasks(setting, "middle", 1)
    shared = set.intersection(*(set(task.classes) for task in tasks))
    assert len(shared) == setting.common
    assert all(len(task.classes) == setting.common + setting.own for task in tasks)
    rows = torch.cat([task.train.x for task in tasks]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_batch_norms_are_restated_on_images_of_all_classes() -> None:
    x = torch.arange(7).repeat_interleave(1000)[:, None]
    drawn = restated_on(x, 1)
    assert len(drawn) == 2000
    assert torch.equal(drawn, restated_on(x, 1))
    assert min(torch.bincount(drawn[:, 0])) > 200


def test_another_seed_deals_other_classes(bench: Bench) -> None:
    one, other = (bench.tasks(SETTINGS[0], "middle", seed)[0].classes for seed in (0, 1))
    assert one != other


@pytest.mark.slow
def test_a_cell_trains_once_and_is_measured_at_every_depth(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a chance to be at chance after one epoch on noise, the networks are measured all the same."""
    monkeypatch.setattr("graftery.compat.members.above", lambda *_: True)
    first = bench.measure(_of("two tasks, 4 common classes/middle/IIW/0"))
    monkeypatch.setattr("benchmarks.compat.measuring.train", None)
    again = bench.measure(_of("two tasks, 4 common classes/late/IIW/0"))
    assert first["own"] == again["own"]
    assert len(first["raw"]) == 2
    assert first["own"] == pytest.approx(sum(first["raw"][i][i] for i in range(2)) / 2)


def _cell(method: str, seed: int, recombined: float, own: float) -> dict[str, Any]:
    where = {"setting": SETTINGS[0].name, "depth": "middle", "method": method, "seed": seed, "precision": "float32"}
    return {**where, "recombined": recombined, "restated": recombined + 1, "own": own}


def _filled(path: Path, seeds: tuple[int, ...] = SEEDS) -> Cells:
    kept = Cells(path, "make bench-compat DATA=FOLDER", RECIPE)
    for seed in seeds:
        for rise, method in enumerate(METHODS):
            kept.put(f"{method.name}/{seed}", _cell(method.name, seed, 12.0 * rise + seed, 0.6 - 0.005 * rise))
    return kept


def test_a_study_is_judged_on_validation_images_and_trains_nets_of_its_own(bench: Bench) -> None:
    first, heavier, *_, common = study.VARIANTS
    seen = first.recipe(bench), heavier.recipe(bench)
    assert {each.judged for each in seen} == {"validation"}
    assert len({each.nets for each in (bench, *seen)}) == 3
    assert seen[1].recipe.common_weight == 3
    assert not {trial.seed for trial in study.trials()} & {cell.seed for cell in cells()}
    tasks = seen[0].tasks(common.setting, "middle", 100)
    assert len(set(tasks[0].classes)) == 10
    assert tasks[0].test is not None
    images, classes = bench.world.images_of("validation")
    wanted = normalised(images[classes == CLASSES.index(tasks[0].classes[0])])
    assert torch.equal(tasks[0].test.x[: len(wanted)], wanted)


def test_the_page_of_a_study(tmp_path: Path) -> None:
    kept = Cells(tmp_path / "a.json", study.COMMAND, RECIPE)
    for trial in study.trials((100,)):
        common = {"common_own": 0.8, "common_joined": 0.6, "anew": 90.0}
        others = {} if trial.variant.setting.own == 0 else {"others_own": 0.75, "others_joined": 0.3}
        kept.put(trial.key, {**trial.where, "recombined": 50.0, "restated": 60.0, "own": 0.7, **common, **others})
    text = study.page(list(kept), kept.facts, 6)
    assert "| all ten classes common | 50.0 | 60.0 | 70.0 | 1 |" in text
    assert "| all ten classes common | 80.0 | 60.0 | - | - | 90.0 | 1 |" in text
    assert "| as in the table | 80.0 | 60.0 | 75.0 | 30.0 | 90.0 | 1 |" in text
    assert "6 cells of the protocol are not measured yet" in text


def test_the_page_says_what_was_asked_and_what_is_missing(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "compat.json")
    text = page(list(kept), kept.facts, [], missing=7)
    assert "- yes: none is under 10 normalised (1.0; of single seeds 0.0 to 2.0)" in text
    assert "- yes: IIW is more than 20 above none (24.0; of single seeds 24.0 to 24.0)" in text
    assert "- **no**: the best is 90 or more, without re-estimation (85.0; of single seeds 84.0 to 86.0)" in text
    assert "**no**: own accuracy is within 3.0 points" in text
    assert "| IIW | **25.0 ± 1.0** | (26.0 ± 1.0) | 59.0 ± 0.0 | -1.0 | 3 |" in text
    assert "7 cells" in text
    assert "†" not in text


def test_the_page_leads_to_the_study_where_there_is_one(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "compat.json")
    write(kept, tmp_path, 0)
    assert "compat-study.md" not in (tmp_path / "compat.md").read_text()
    (tmp_path / "compat-study.md").write_text("")
    write(kept, tmp_path, 0)
    assert "(compat-study.md)" in (tmp_path / "compat.md").read_text()


def test_no_bar_is_met_by_a_part_of_the_table(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "compat.json", SEEDS[:2])
    text = page(list(kept), kept.facts, [])
    assert text.count("**not measured in full**") == 6
    assert "- yes" not in text


def test_methods_of_other_seeds_have_no_difference(tmp_path: Path) -> None:
    kept = Cells(tmp_path / "compat.json", "make bench-compat DATA=FOLDER", RECIPE)
    for method, seed in (("none", 0), ("RP", 1)):
        kept.put(method, _cell(method, seed, 10.0, 0.6))
    assert "| RP | **10.0** | (11.0) | 60.0 | - | 1 |" in page(list(kept), kept.facts, [])


def test_cells_of_another_precision_are_marked_and_measured_again(tmp_path: Path) -> None:
    kept, cell = _filled(tmp_path / "compat.json"), _of("two tasks, 4 common classes/middle/RP/1")
    kept.put(cell.key, {**_cell("RP", 1, 10.0, 0.6), "precision": "bfloat16"})
    assert kept.has(cell.key) and not kept.has(cell.key, cell.where)
    text = page(list(kept), kept.facts, [])
    assert "† 1 cells are of networks that learned in bfloat16" in text
    assert "| RP † |" in text and "| IIW |" in text
    assert "- yes" in text, "the table's own cells are whole"
    kept.put("RP/1", {**_cell("RP", 1, 10.0, 0.6), "precision": "bfloat16"})
    text = page(list(kept), kept.facts, [])
    assert text.count("**not measured in full**") == 6, "what was asked is of the protocol's cells"


def test_networks_that_learned_otherwise_are_trained_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = _of("two tasks, 4 common classes/middle/none/0")
    trained: list[CompatRecipe] = []

    def train(together: list[Any], group: Any, recipe: CompatRecipe, **_: Any) -> Any:
        trained.append(recipe)
        raise Interrupted

    monkeypatch.setattr("benchmarks.compat.measuring.train", train)
    folder = tmp_path / "nets" / "two_tasks,_4_common_classes-none-any-0"
    for epochs, there in ((1, False), (1, True), (2, False)):
        with pytest.raises(Interrupted):
            replace(bench, recipe=bench.recipe.model_copy(update={"epochs": epochs})).measure(cell)
        assert (folder / "checkpoint-9").exists() is there
        (folder / "checkpoint-9").touch()
    assert [recipe.epochs for recipe in trained] == [1, 1, 2]


class Interrupted(Exception):
    """In the middle of a training."""


def test_the_same_cells_give_the_same_files(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "compat.json")
    for name in ("one", "other"):
        write(kept, tmp_path / name, 0)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert set(files) == {"compat.md", "compat-two-tasks-4-common-classes.svg"}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}

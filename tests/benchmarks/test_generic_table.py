"""The benchmark of a generic network that grows: what is dealt, measured and kept, what the page says. On random images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.cells import Cells
from benchmarks.generic import goals
from benchmarks.generic.measuring import Bench, quick
from benchmarks.generic.nets import Store
from benchmarks.generic.protocol import (
    CONSOLIDATED,
    CONSOLIDATED_IMAGES,
    CONSOLIDATIONS,
    GROWN,
    JOINT,
    ROWS,
    SEEDS,
    SEQUENTIAL_ALL,
    SEQUENTIAL_FEW,
    STEPWISE,
    TEACHERS,
    TUNING_SEEDS,
    Cell,
    cells,
    dealt,
)
from benchmarks.generic.report import page, write
from benchmarks.generic.tuning import KEPT, VARIANTS, tune
from benchmarks.transplant.worlds import cifar10
from benchmarks.transplant.worlds.cifar10 import CLASSES, Cifar10
from graftery.module import trace
from graftery.spec.manifest import OutputMeaning
from graftery.spec.recipes import BankRecipe, ConsolidateRecipe

COUNT = 3


class Images(Cifar10):
    """Random images, each class of its own brightness, 40 a class and split."""

    def images_of(self, split: str) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(len(split))
        classes = torch.arange(400) % 10
        x = torch.randint(0, 100, (400, 3, 32, 32), generator=random) + 15 * classes[:, None, None, None]
        return x.to(torch.uint8), classes


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "EVALUATED", {"train": 100, "validation": 30, "test": 30})
        folder = tmp_path_factory.mktemp("generic")
        made = quick(Bench(Images(None, folder), folder / "nets", say=lambda _: None))
        made.world.schedule = replace(made.world.schedule, steps=2, batch=16)
        shorter = {"steps": 4, "sources": ("noise",), "batch": 8, "bank": BankRecipe(rows=16)}
        fine = replace(made.fine_tuning, steps=2, batch=16)
        yield replace(
            made,
            count=COUNT,
            fine_tuning=fine,
            transplants=made.transplants.model_copy(update=shorter),
            recipe=made.recipe.model_copy(update=shorter),
        )


def test_every_seed_deals_its_own_order() -> None:
    orders = [dealt(seed) for seed in (*SEEDS, *TUNING_SEEDS)]
    assert len(set(orders)) == len(orders)
    assert all(sorted(order) == sorted(CLASSES) for order in orders)
    assert not set(SEEDS) & set(TUNING_SEEDS)


def test_every_cell_has_a_key_of_its_own() -> None:
    keys = [cell.key for cell in cells()]
    assert len(set(keys)) == len(keys) == 3 * (3 * 9 + 4)


@pytest.mark.slow
def test_old_cells_stay_as_they_were_while_the_network_grows(bench: Bench) -> None:
    found = [{"row": c.row, "seed": 0, "count": c.count, **bench.measure(c)} for c in _stepwise(GROWN)]
    assert [len(cell["accuracy"]) for cell in found] == [2, 3]
    assert goals.changes(found) == 0
    assert found[1]["accuracy"].items() >= found[0]["accuracy"].items()
    after = bench.measure(Cell(CONSOLIDATED, 0, COUNT))
    assert goals.changes([*found, {"row": CONSOLIDATED, "seed": 0, "count": COUNT, **after}]) == 0
    assert {each["cell"] for each in after["reports"]} == set(dealt(0, COUNT))
    broken = {**found[1], "bits": {**found[1]["bits"], dealt(0)[0]: "other"}}
    assert goals.changes([found[0], broken]) == 1


def _stepwise(row: str) -> list[Cell]:
    return [cell for cell in cells([0], COUNT) if cell.row == row]


@pytest.mark.slow
def test_fine_tuning_moves_the_shared_module_under_the_others(bench: Bench) -> None:
    for row in (SEQUENTIAL_ALL, SEQUENTIAL_FEW):
        last = bench.measure(_stepwise(row)[-1])
        assert set(last["accuracy"]) == set(dealt(0, COUNT))
    names = [path.name for path in (bench.folder / "generic").iterdir()]
    assert sum(name.startswith("fine-tuning") for name in names) == 2


@pytest.mark.slow
def test_what_was_made_is_not_made_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (TEACHERS, JOINT, *CONSOLIDATIONS)
    before = {row: bench.measure(Cell(row, 0, COUNT)) for row in rows}
    monkeypatch.setattr(Images, "teacher", None)
    monkeypatch.setattr(Images, "generic_nets", None)
    monkeypatch.setattr("benchmarks.generic.nets.consolidate_task", None)
    assert {row: bench.measure(Cell(row, 0, COUNT)) for row in rows} == before


def test_what_is_made_of_other_files_is_made_anew(tmp_path: Path) -> None:
    made: list[str] = []
    store = Store(tmp_path, made.append)
    file = trace(torch.nn.Linear(2, 2), torch.zeros(2, 2), outputs={"y": OutputMeaning(semantics="feature")})
    first = store("adapter", lambda: ({"h": file}, {"seconds": 1}), "teacher", {"steps": 1})
    assert first.facts == {"seconds": 1}
    assert store("adapter", lambda: ({"h": file}, {"seconds": 2}), "teacher", {"steps": 1}).facts == first.facts
    assert store("adapter", lambda: ({"h": file}, {"seconds": 3}), "other", {"steps": 1}).facts == {"seconds": 3}
    assert store("adapter", lambda: ({"h": file}, {"seconds": 4}), "teacher", {"steps": 2}).facts == {"seconds": 4}
    assert made == ["making adapter"] * 3


def test_the_page_says_of_how_many_cells_the_precision_is_not_known(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "generic.json")
    found = list(kept)
    assert f"Nets of {len(found)} cells, of an earlier protocol, learned in bfloat16 or float32" in page(
        found, kept.facts
    )
    told = [{**cell, "precision": "float32"} for cell in found]
    assert "learn in float32. Seconds" in page(told, kept.facts)


@pytest.mark.slow
def test_tuning_goes_on_where_it_was(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.generic.tuning.TUNING_SEEDS", (0,))
    monkeypatch.setattr("benchmarks.generic.tuning.VARIANTS", {"default": {}, "rate": {"learning_rate": 1e-2}})
    kept = Cells(tmp_path / "generic.json", "make", ConsolidateRecipe())
    kept.keep(KEPT, {"default": {"0": {"points": 0.0, "worst": 0.0, "was": 0.5, "is": 0.6}}})
    told: list[str] = []
    tune(bench, kept, told.append)
    assert len(told) == 1
    assert set(kept.facts[KEPT]) == {"default", "rate"}
    assert next(iter(VARIANTS)) == "default"


def _cell(row: str, seed: int, count: int, accuracy: float, **more: Any) -> dict[str, Any]:
    by_category = dict.fromkeys(dealt(seed, count), accuracy)
    return {"row": row, "seed": seed, "count": count, "accuracy": by_category, "seconds": 7.0, **more}


def _filled(path: Path, *, after: float = 0.885) -> Cells:
    kept = Cells(path, "make bench-generic DATA=FOLDER", ConsolidateRecipe())
    figures = {TEACHERS: 0.89, GROWN: 0.88, SEQUENTIAL_ALL: 0.6, SEQUENTIAL_FEW: 0.7, JOINT: 0.9}
    figures |= {CONSOLIDATED: after, CONSOLIDATED_IMAGES: 0.87}
    for cell in cells():
        bits = {"bits": {c: c for c in dealt(cell.seed, cell.count)}} if cell.row in (GROWN, CONSOLIDATED) else {}
        more = {"unchanged": False, "steps": 60} if cell.row in CONSOLIDATIONS else {}
        kept.put(cell.key, _cell(cell.row, cell.seed, cell.count, figures[cell.row], **bits, **more))
    return kept


def test_the_page_says_what_was_asked(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "generic.json")
    text = page(list(kept), kept.facts)
    assert (
        "- yes: after all ten categories, with 0 labels, the mean is within 1.5 points of the teachers' (1.00 under it)"
        in text
    )
    assert "- yes: consolidation with 0 labels wins back 50 % of that distance (+0.50 points of 1.00: 50 %)" in text
    assert "- yes: old cells are bitwise the same throughout: files and outputs (30 of 30 cells)" in text
    assert "| transplants | 88.0 ± 0.0 |" in text
    short = page(list(_filled(tmp_path / "short.json", after=0.881)), kept.facts)
    assert "- **no**: consolidation with 0 labels wins back" in short


def test_the_page_says_where_the_distance_is(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "generic.json")
    cell = next(cell for cell in kept if (cell["row"], cell["seed"]) == (TEACHERS, 1))
    for category in dealt(1)[:2]:
        cell["accuracy"][category] = 0.91
    text = page(list(kept), kept.facts)
    assert "| 0 | 1.00 | 1.00 | 1.00 | 20 % |" in text
    assert "| 1 | 3.00 | 1.00 | 1.40 | 43 % |" in text
    assert "| mean | 1.67 | 1.00 | 1.13 | 29 % |" in text
    assert "| consolidated | mean | +0.50 | +0.50 | +0.50 |" in text
    assert "| consolidated | 1 | +0.50 | +0.50 | +0.50 | +0.50 (" in text
    assert "| consolidated, unlabelled images | 0 | -1.00 | -1.00 | -1.00 | -1.00 (" in text


def test_teachers_are_counted_in_the_order_of_their_seed(tmp_path: Path) -> None:
    _filled(tmp_path / "generic.json")
    kept = Cells(
        tmp_path / "generic.json", "make", ConsolidateRecipe()
    )  # read again: the file has names in their own order
    for cell in kept:
        if cell["row"] == TEACHERS:
            cell["accuracy"] = {c: 0.9 if c in dealt(cell["seed"], 2) else 0.5 for c in sorted(CLASSES)}
    assert goals.teachers(list(kept), 2) == pytest.approx([90.0, 90.0, 90.0])
    assert goals.teachers(list(kept), 4) == pytest.approx([70.0, 70.0, 70.0])
    assert "| teachers | 90.0 ± 0.0 | 76.7 ± 0.0 | 70.0 ± 0.0 |" in page(list(kept), kept.facts)


def test_nothing_is_called_met_before_it_is_measured(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "generic.json")
    some = [cell for cell in kept if cell["seed"] != 2]
    missing = [cell.key for cell in cells() if cell.seed == 2]
    text = page(some, kept.facts, missing=missing)
    assert text.count("**not measured in full**") == 3
    assert f"**{len(missing)} cells of the protocol are not measured yet**" in text
    assert all(row in text for row in ROWS)


def test_the_same_cells_give_the_same_files(tmp_path: Path) -> None:
    kept = _filled(tmp_path / "generic.json")
    kept.keep(KEPT, {"default": {"100": {"points": 0.4, "worst": -0.1, "was": 0.9, "is": 0.95}}})
    for name in ("one", "other"):
        write(kept, tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert set(files) == {"generic.md", "generic.svg"}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}
    assert b"| default | +0.40 | -0.10 | 0.900 | 0.950 |" in files["generic.md"]
    assert set(STEPWISE) < set(ROWS)

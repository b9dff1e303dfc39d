"""How the baselines of the benchmark of cloning are tuned."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import Cells, machine
from benchmarks.cloning import tuning
from benchmarks.cloning.measuring import Bench
from benchmarks.cloning.protocol import (
    EWC,
    FINE,
    HEAD,
    LWF,
    ROWS,
    Row,
)
from benchmarks.cloning.report import page
from benchmarks.running import RESULTS
from tests.support.cloning_table import RECIPE, ROW, benched, cell_of, dealt


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return benched(dealt(tmp_path / "nets"))


def test_tuning_keeps_each_trial_and_takes_the_best(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cloning.json"
    means = {0.0001: 0.4, 0.0003: 0.7, 0.001: 0.2}
    asked: list[Any] = []

    def tried(_: Bench, row: Row, problem: Any, choice: dict[str, float]) -> dict[str, float]:
        asked.append((problem.seed, len(problem.measured) // 6))
        return {"mean": means[choice["rate"]]}

    monkeypatch.setattr(Bench, "tried", tried)
    assert not tuning.chosen(Cells(path, "", RECIPE).facts, "digits")
    tuning.tune(bench, Cells(path, "", RECIPE))
    found = tuning.chosen(Cells(path, "", RECIPE).facts, "digits")
    assert found[FINE]["rate"] == 0.0003
    assert found[HEAD]["rate"] == 0.0003
    assert set(asked) == {(100, 4)}
    asked.clear()
    tuning.tune(bench, Cells(path, "", RECIPE))
    assert not asked


def _tuned(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch, means: Callable[[dict[str, float]], float]
) -> tuple[Cells, list[dict[str, float]]]:
    """Tune fine-tuning and LwF where each choice has this mean; what was tried, in order."""
    asked: list[dict[str, float]] = []

    def tried(_: Bench, row: Row, __: Any, choice: dict[str, float]) -> dict[str, float]:
        asked.append({"row": row.name, **choice})  # type: ignore[dict-item]
        return {"mean": means(choice)}

    monkeypatch.setattr(Bench, "tried", tried)
    kept = Cells(folder / "cloning.json", "", RECIPE)
    tuning.tune(replace(bench, trials=None), kept, [ROW[FINE], ROW[LWF]])
    return kept, asked


def _off(value: float, best: float) -> float:
    return abs(math.log(value / best)) if value else 0.0


def test_grids_have_steps_to_go_on_by() -> None:
    for row in ROWS:
        for values in (row.rates, row.strengths):
            assert list(values) == sorted(values)
            assert not row.tuned or len(values) == 1 or len(values) > 2


def test_a_choice_at_an_edge_has_the_grid_grow_until_it_is_inside(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best: a rate of 0.03, one beyond the grid, and a strength of 0.01, two beyond."""
    kept, asked = _tuned(
        bench, tmp_path, monkeypatch, lambda it: 1 - 0.01 * _off(it["rate"], 0.03) - 0.01 * _off(it["strength"], 0.01)
    )
    found = tuning.chosen(kept.facts, "digits")
    assert found == {FINE: {"rate": 0.03, "strength": 0.0}, LWF: {"rate": 0.03, "strength": 0.01}}
    assert {each["rate"] for each in asked if each["row"] == FINE} == {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1}
    assert {each["strength"] for each in asked if each["row"] == LWF} == {0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0}
    trials = tuning.trials(kept.facts, "digits", ROW[LWF])
    assert len(trials) == sum(each["row"] == LWF for each in asked) == 7 * 6
    text = page([cell_of(ROW[LWF], 1, 0, 0.9, 0.1)], {**kept.facts, "machine": machine()})
    assert f"| {LWF} | 0.03 | 0.01 | 100.0 | 42 |" in text


def test_a_grid_that_has_grown_to_its_bound_is_marked(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, asked = _tuned(bench, tmp_path, monkeypatch, lambda it: it["rate"])
    assert tuning.chosen(kept.facts, "digits")[FINE] == {"rate": 0.3, "strength": 0.0}
    assert [each["rate"] for each in asked if each["row"] == FINE][-3:] == [0.03, 0.1, 0.3]
    text = page([cell_of(ROW[FINE], 1, 0, 0.9, 0.1)], {**kept.facts, "machine": machine()})
    assert f"| {FINE} | 0.3 * | - | 30.0 | 7 |" in text


def test_what_was_chosen_before_grids_grew_stays_and_keeps_its_mark(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digits: cells were measured with a choice at an edge, and trials of an earlier grid are there."""
    path, asked = tmp_path / "cloning.json", []
    monkeypatch.setattr(Bench, "tried", lambda *_: asked.append(1) or {"mean": 0.9})
    stored = json.loads((RESULTS / "cloning.json").read_text())
    path.write_text(json.dumps({"tuning": stored["tuning"]}))
    kept = Cells(path, "", RECIPE)
    tuning.tune(replace(bench, trials=None), kept)
    assert not asked
    assert kept.facts["tuning"] == stored["tuning"]
    text = page([cell_of(ROW[LWF], 1, 0, 0.9, 0.1)], {**kept.facts, "machine": machine()})
    assert f"| {LWF} | 0.003 | 0.1 * | 98.5 | 16 |" in text
    assert f"| {EWC} | 0.01 | 3 | 98.2 | 20 |" in text


def test_a_trial_that_another_process_is_at_is_waited_for(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks are those of files that were opened: threads stand for processes."""
    asked: list[float] = []

    def tried(_: Bench, __: Row, ___: Any, choice: dict[str, float]) -> dict[str, float]:
        asked.append(choice["rate"])
        time.sleep(0.1)
        return {"mean": 1 - _off(choice["rate"], 1e-3)}

    def tuned(_: int) -> dict[str, dict[str, float]]:
        return tuning.tune(replace(bench, trials=None), Cells(tmp_path / "cloning.json", "", RECIPE), [ROW[FINE]])

    bench.dealer.train(bench.tuning_seeds)
    monkeypatch.setattr(Bench, "tried", tried)
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(tuned, range(2))) == [{FINE: {"rate": 1e-3, "strength": 0.0}}] * 2
    assert sorted(asked) == [3e-4, 1e-3, 3e-3, 1e-2]

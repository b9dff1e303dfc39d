"""The walk over cells that all long benchmarks share: what is measured, kept, and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import Cells
from benchmarks.running import parser, watching
from benchmarks.writing import machine_line, missing_line
from graftery.learning.loop import Progress
from graftery.spec.recipes import CloneRecipe


@dataclass(frozen=True)
class Cell:
    name: str

    @property
    def key(self) -> str:
        return f"cell/{self.name}"

    @property
    def where(self) -> dict[str, Any]:
        return {"name": self.name}


CELLS = [Cell("a"), Cell("b"), Cell("c")]


@pytest.fixture
def kept(tmp_path: Path) -> Cells:
    return Cells(tmp_path / "cells.json", "make it", CloneRecipe())


def _measured(kept: Cells, *, again: bool = False, broken: str = "") -> list[str]:
    done = []

    def one(cell: Cell, tell: Callable[[Progress], None]) -> dict[str, Any]:
        tell(Progress("train", 1, 2, 0.5, {}))
        if cell.name == broken:
            raise KeyboardInterrupt
        done.append(cell.name)
        return {"figure": len(done)}

    with watching() as watch:
        watch.measure(CELLS, kept, one, again=again)
    return done


def test_what_is_kept_is_not_measured_again(kept: Cells) -> None:
    kept.put("cell/b", {"name": "b", "figure": 7})
    assert _measured(kept) == ["a", "c"]
    assert [cell["figure"] for cell in kept] == [1, 7, 2]
    assert _measured(kept) == []
    assert _measured(kept, again=True) == ["a", "b", "c"]


def test_stopped_it_goes_on_where_it_was(kept: Cells) -> None:
    with pytest.raises(KeyboardInterrupt):
        _measured(kept, broken="b")
    assert _measured(Cells(kept.path, "make it", CloneRecipe())) == ["b", "c"]


def test_without_a_terminal_each_cell_has_a_line(kept: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    _measured(kept)
    said = capsys.readouterr().out
    assert all(f"cell/{cell.name}: {count} cells" in said for count, cell in enumerate(CELLS, start=1))


def test_data_come_from_the_environment_unless_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTERY_DATA", "there")
    assert parser("it", "text").parse_args([]).data == Path("there")
    assert parser("it", "text").parse_args(["--data", "here"]).data == Path("here")


def test_a_page_says_what_it_was_measured_on_and_what_is_missing(kept: Cells) -> None:
    kept.put("cell/a", {})
    said = machine_line(kept.facts["machine"])
    assert "cores" in said and kept.facts["machine"]["torch"] in said
    assert missing_line(3).startswith("**3 cells")

"""The matrix drawn: wide, narrow, and narrower than a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from graftery.client.matrix import drawn
from graftery.spec.generic import GenericOut

Make = Callable[..., dict[str, Any]]


def _figure(value: float) -> dict[str, Any]:
    return {"metric": "accuracy", "value": value}


READY = {"category": "cat", "task": "animals-is", "state": "ready", "network": "zoo-cat:1"}
CELLS: list[dict[str, Any]] = [
    READY
    | {"figure": _figure(0.912), "teacher": _figure(0.92), "direct": _figure(0.71)}
    | {"certificate": {"recorded": True, "replays": 2, "identical": 2, "different": 0}},
    {"category": "cat", "task": "animals-turn", "state": "rejected", "reason": "10.0 points below the teacher's"},
    READY | {"category": "a-category-with-a-long-name", "agreement": 0.83},
    {"category": "a-category-with-a-long-name", "task": "animals-turn", "state": "running"},
]


def _lines(out: dict[str, Any], width: int) -> list[str]:
    console = Console(width=width, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        for each in drawn(GenericOut.model_validate(out), width):
            console.print(each)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_on_a_wide_terminal_it_is_one_table(matrix: Make) -> None:
    lines = _lines(matrix(*CELLS), 200)
    assert lines[0] == "zoo  4 cells: 2 ready, 1 rejected, 1 running"
    assert lines[1].split() == ["animals-is", "animals-turn"]
    assert lines[2].split() == ["cat", "0.912", "=", "rejected"]
    assert lines[3].split() == ["T", "0.920", "D", "0.710"]
    assert lines[4].split() == ["a-category-with-a-long-name", "k", "0.83", "running"]
    assert lines[5].startswith("T the teacher's; D learned directly") and "= asked again" in lines[5]
    assert lines[6] == "cat x animals-turn rejected: 10.0 points below the teacher's"


@pytest.mark.parametrize("width", [20, 24, 32, 40, 60, 80])
def test_on_a_narrow_one_nothing_is_lost_and_nothing_is_too_wide(matrix: Make, width: int) -> None:
    lines = _lines(matrix(*CELLS), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for word in ("0.912 =", "T 0.920", "D 0.710", "k 0.83", "running", "rejected"):
        assert word in text
    assert text.count("0.912") == 1


def test_columns_that_have_no_room_come_beneath(matrix: Make) -> None:
    cells = [READY | {"task": f"task-{number}", "figure": _figure(number / 10)} for number in range(9)]
    lines = _lines(matrix(*cells), 40)
    heads = [line.split() for line in lines if "task-" in line]
    assert len(heads) == 3 and [name for head in heads for name in head] == [f"task-{number}" for number in range(9)]
    assert sum(line.startswith("cat") for line in lines) == 3


def test_a_cell_that_answered_differently_stands_out(matrix: Make) -> None:
    changed = {"recorded": True, "replays": 2, "identical": 1, "different": 1}
    lines = _lines(matrix(READY | {"certificate": changed}), 80)
    assert "ready !" in lines[2] and "ANSWERED DIFFERENTLY" in lines[-1]


def test_cells_that_were_filtered_out_leave_a_gap(matrix: Make) -> None:
    out = matrix(*CELLS)
    out["cells"] = [CELLS[0], CELLS[3]]
    lines = _lines(out, 120)
    assert lines[2].split() == ["cat", "0.912", "="] and lines[4].split() == ["a-category-with-a-long-name", "running"]
    out["cells"] = []
    assert _lines(out, 80)[0] == "zoo  0 cells"

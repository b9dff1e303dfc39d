"""What a benchmark of servers keeps of its cells, also of those that cannot be measured."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.serving.kept import Kept
from benchmarks.serving.processes import BenchError


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "kept.json", "make it", ["torch", "no-such-package"])


def _measured(kept: Kept, error: Exception | None = None) -> tuple[dict[str, Any], str]:
    def cell() -> dict[str, Any]:
        if error is not None:
            raise error
        return {"per_s": 3.0}

    console = Console(file=io.StringIO(), width=200)
    kept.measure("cell", cell, 3, console)
    found = kept.cell("cell")
    assert found is not None
    return found, console.file.getvalue()  # type: ignore[attr-defined]


def test_a_cell_is_kept_with_its_time_and_rounds(kept: Kept) -> None:
    assert kept.lacks("cell")
    found, said = _measured(kept)
    assert (found["per_s"], found["rounds_wanted"], said) == (3.0, 3, "")
    assert found["seconds"] >= 0
    again = Kept(kept.path, "make it")
    assert not again.lacks("cell")
    assert again.known["versions"]["ours"]["no-such-package"] == "none"


def test_a_server_that_does_not_answer_costs_its_cell_alone(kept: Kept) -> None:
    found, said = _measured(kept, BenchError("it answered nothing"))
    assert found["reason"] == "it answered nothing"
    assert "cell was not measured: it answered nothing" in said and "Traceback" not in said
    assert kept.lacks("cell")


def test_what_nobody_thought_of_is_told_whole(kept: Kept) -> None:
    found, said = _measured(kept, ZeroDivisionError("by zero"))
    assert found["reason"] == "ZeroDivisionError: by zero"
    assert "Traceback" in said
    assert not Kept(kept.path, "make it").known["left_out"]

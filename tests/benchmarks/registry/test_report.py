from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.registry import jobs, listeners, metadata, scaling, upload
from benchmarks.registry.goals import judged
from benchmarks.registry.plots import draw
from benchmarks.registry.report import page


def _run(per_s: float, p99_ms: float = 10.0) -> dict[str, Any]:
    return {"per_s": per_s, "p50_ms": 5.0, "p99_ms": p99_ms, "cpu_ms": 1.0}


def _cells() -> dict[str, Any]:
    sent = {"transfer": 90.0, "transfer_floor": 100.0, "whole": 40.0, "whole_floor": 90.0, "check_s": 0.5}
    beside = [{"ours": _run(300.0 + n), "theirs": _run(100.0)} for n in range(3)]
    grown = [{"few": _run(1.0, 10.0), "many": _run(1.0, p99)} for p99 in (15.0, 25.0, 12.0)]
    heard = {"jobs": 1, "complete": 1000, "kib": 60.0, "every": _run(0.0), "last": _run(0.0)}
    table = {
        "claims": {str(count): [_run(80.0)] for count in jobs.BACKLOGS},
        "workers": {str(count): [{"per_s": 9.0, "taken": _run(0.0)}] for count in jobs.WORKERS},
        "submit": [_run(200.0)],
    }
    many = {"few": 1000, "many": scaling.MANY, "big": 10_000, "operations": dict.fromkeys(scaling.OPERATIONS, grown)}
    return {
        "upload": {str(size): [sent] for size in upload.SIZES_MIB},
        "metadata": {
            "versions": 10_000,
            "screened": [{"setting": "one", **_run(100.0)}],
            "operations": dict.fromkeys(metadata.OPERATIONS, beside),
        },
        "sqlite": many,
        "postgresql": {"reason": "no | server"},
        "listeners": {"listeners": 1000, **{spread: [heard] for spread in listeners.SPREADS}},
        "jobs": {"postgresql": table, "sqlite": table},
    }


def _known(cells: dict[str, Any]) -> dict[str, Any]:
    machine = {"cores": 2, "model": "A chip", "processor": "x86_64", "kernel": "6", "load": [0.1, 0.1, 0.1]}
    return {"cells": cells, "machine": machine, "versions": {"mlflow": {"mlflow": "3"}}, "left_out": {}, "command": "x"}


def test_goals_are_judged_by_the_median_of_the_rounds() -> None:
    verdicts: dict[str, set[str]] = {}
    for goal in judged(_cells()):
        verdicts.setdefault(goal.name[0], set()).add(goal.verdict)
    assert verdicts == {"1": {"met"}, "2": {"met"}, "3": {"met", "not measured"}, "4": {"met"}}
    lost = _cells()
    lost["listeners"]["each"] = [{**lost["listeners"]["each"][0], "complete": 999}]
    lost["upload"]["64"][0]["transfer"] = 70.0
    missed = [goal.name for goal in judged(lost) if goal.met is False]
    assert [name[:2] for name in missed] == ["1.", "1.", "1.", "4."]


def test_the_page_has_every_cell_and_says_what_is_not_there() -> None:
    text = page(_known(_cells()))
    for part in ("## Uploads", "## Metadata beside MLflow", "## Many versions, SQLite", "## Live events", "## Jobs"):
        assert part in text
    assert "## Many versions, PostgreSQL" not in text
    assert "0.9 (0.9 to 0.9)" in text
    assert "3.01 (3 to 3.02)" in text
    assert page(_known({})).count("not measured") == len(judged({}))


def test_the_same_cells_give_the_same_plots(tmp_path: Path) -> None:
    names = [name for name, _ in draw(_cells(), tmp_path)]
    assert names == ["registry-metadata.svg", "registry-sqlite.svg"]
    before = [(tmp_path / name).read_bytes() for name in names]
    draw(_cells(), tmp_path)
    assert [(tmp_path / name).read_bytes() for name in names] == before

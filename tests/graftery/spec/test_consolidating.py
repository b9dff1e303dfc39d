from __future__ import annotations

from typing import Any

import pytest

from graftery.spec.consolidating import CellReport, Standing, worse_than


def _report(cell: str, before: dict[str, Any], after: dict[str, Any], semantics: str = "classification") -> CellReport:
    standings = {"before": Standing.model_validate(before), "after": Standing.model_validate(after)}
    fields = {"semantics": semantics, "anchored": False, "sources": ("noise",), "objectives": {}, "labels": 0}
    return CellReport.model_validate({"cell": cell, **fields, **standings})


def _measured(accuracy: float, agreement: float = 0.5) -> dict[str, Any]:
    return {"explained": 0.9, "agreement": agreement, "metrics": {"balanced_accuracy": accuracy, "auc": 0.5}}


def test_the_worst_cell_comes_first_and_better_ones_do_not_come() -> None:
    reports = [
        _report("better", _measured(0.9), _measured(0.95)),
        _report("worse", _measured(0.9), _measured(0.88)),
        _report("worst", _measured(0.9), _measured(0.8)),
    ]
    found = worse_than(reports, 1.0)
    assert [(each.cell, each.figure, each.points) for each in found] == [
        ("worst", "balanced_accuracy", pytest.approx(10)),
        ("worse", "balanced_accuracy", pytest.approx(2)),
    ]


def test_exactly_so_many_points_are_allowed() -> None:
    report = _report("cell", _measured(0.9), _measured(0.88))
    assert worse_than([report], 2.0) == []
    assert len(worse_than([report], 1.9)) == 1
    assert worse_than([_report("same", _measured(0.9), _measured(0.9))], 0.0) == []


@pytest.mark.parametrize(
    "before, after, semantics, figure",
    [
        (_measured(0.9), {"explained": 0.9, "agreement": 0.4}, "classification", "agreement"),
        ({"explained": 0.9, "agreement": 0.5}, _measured(0.9, 0.4), "classification", "agreement"),
        ({"explained": 0.9}, {"explained": 0.8}, "regression", "explained"),
        (
            {"explained": 0.9, "metrics": {"iou": 0.5}},
            {"explained": 0.9, "metrics": {"iou": 0.4}},
            "segmentation",
            "iou",
        ),
        (
            {"explained": 0.9, "metrics": {"mse": 1.0}},
            {"explained": 0.8, "metrics": {"mse": 2.0}},
            "regression",
            "explained",
        ),
    ],
)
def test_what_a_cell_is_judged_by(before: dict[str, Any], after: dict[str, Any], semantics: str, figure: str) -> None:
    (found,) = worse_than([_report("cell", before, after, semantics)], 0.5)
    assert found.figure == figure
    assert found.points == pytest.approx(10)

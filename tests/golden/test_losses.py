"""Losses of each objective for fixed seeds, against stored ones: a change that is meant to be neutral leaves them.

To store new ones after a change that is meant: GRAFTERY_STORE_GOLDEN=1 pytest tests/golden, and say why in the commit.
The tolerance (1e-3 relative) is a thousand times what another CPU or number of threads makes, and far below what
another formula, weight or random stream makes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from graftery.data import SampleSet
from graftery.data.streams import generator
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import sketch, transplant
from tests.support.transplants import category_file, fixed_image_nets, task_file

STORE = Path(__file__).with_name("losses.json")
CASES: dict[str, dict[str, Any]] = {
    "direct": {"objectives": {"direct": 1.0}},
    "distillation": {"objectives": {"distillation": 1.0}, "sources": ["noise"]},
    "back_distillation": {"objectives": {"back_distillation": 1.0}, "sources": ["noise"]},
    "pseudo_gradient": {"objectives": {"pseudo_gradient": 1.0}, "sources": ["noise"]},
    "unlabelled": {"sources": ["unlabelled"], "labels": 0},
    "inversion": {"sources": ["inversion"], "labels": 0},
    "moments": {"sources": ["moments"], "labels": 0},
    "default, no labels": {"labels": 0},
    "default, labels": {},
}
SMALL = {"steps": 20, "batch": 16, "inversion": {"images": 16, "steps": 10}}


def _losses(case: str) -> dict[str, float]:
    """The first and the last loss of each phase."""
    x = torch.randn(24, 1, 8, 8, generator=generator(0, "golden"))
    f, task, teacher = fixed_image_nets()
    plain = category_file(f, x)
    category = category_file(f, x, sketch=sketch(plain, x))
    features = torch.rand(2, 4, 4, 4)
    done = transplant(
        category,
        task_file(task, features),
        teacher_task=task_file(teacher, features),
        recipe=TransplantRecipe.model_validate({**SMALL, **CASES[case]}),
        samples=SampleSet(x, (torch.arange(24) % 2)),
        unlabelled=SampleSet(x),
    )
    phases = {str(entry["phase"]) for entry in done.history} - {"evaluate"}
    ends = {phase: [float(e["loss"]) for e in done.history if e["phase"] == phase] for phase in sorted(phases)}
    return {f"{phase}.{end}": values[at] for phase, values in ends.items() for end, at in (("first", 0), ("last", -1))}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_the_stored_ones(case: str) -> None:
    stored = json.loads(STORE.read_text()) if STORE.exists() else {}
    found = _losses(case)
    if os.environ.get("GRAFTERY_STORE_GOLDEN"):
        STORE.write_text(json.dumps(stored | {case: found}, indent=1, sort_keys=True) + "\n")
        return
    assert found == pytest.approx(stored[case], rel=1e-3)

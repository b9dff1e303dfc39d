"""Losses of each phase of a cloning for a fixed seed, against stored ones; see test_losses.py for how, and for the tolerance."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from graftery.cloning import clone
from graftery.data import SampleSet
from graftery.spec.recipes import CloneRecipe
from tests.support import skills

STORE = Path(__file__).with_name("clone_losses.json")
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "joint": {"joint": True},
    "noise": {"originals": "noise"},
    "weights learn on": {"learn_on": True},
    "without healing": {"healing_steps": 0},
    "healing on mixed images": {"healing_mixed": 8},
}
SMALL = {"localization_steps": 8, "healing_steps": 8, "steps": 8, "batch": 16, "views": 2, "tolerance": 1}


def _losses(case: str) -> dict[str, float]:
    """The first and the last loss of each phase; nets are untrained, which is all that losses need."""
    y = torch.arange(7).repeat_interleave(6)
    x = torch.randn(len(y), 1, 8, 8, generator=torch.Generator().manual_seed(5))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    recipe = CloneRecipe.model_validate({**SMALL, "positions": ["0"], **CASES[case]})
    source, target = skills.raw(), skills.raw("vgg", skills.TARGET, wide=True)
    try:
        done = clone(source, target, SampleSet(x, y), skills.names((5, 6)), recipe=recipe)
    finally:
        torch.set_num_threads(threads)
    found: dict[str, float] = {}
    for entry in done.history:
        found.setdefault(f"{entry['phase']}.first", float(entry["loss"]))
        found[f"{entry['phase']}.last"] = float(entry["loss"])
    return found


@pytest.mark.parametrize("case", list(CASES))
def test_losses_are_the_stored_ones(case: str) -> None:
    found = _losses(case)
    if os.environ.get("GRAFTERY_STORE_GOLDEN"):
        stored = json.loads(STORE.read_text()) if STORE.exists() else {}
        STORE.write_text(json.dumps({**stored, case: found}, indent=1, sort_keys=True) + "\n")
    stored = json.loads(STORE.read_text())[case]
    assert found.keys() == stored.keys()
    for phase, loss in stored.items():
        assert found[phase] == pytest.approx(loss, rel=1e-3), phase

"""Transplants between families of nets on the handwritten digits, without a label: what is reached of the teacher.

`make test` runs the pairs of one round, in which each family gives its features once and takes others' once; with
GRAFTERY_PAIRS=all (`make test-pairs`) it is every ordered pair. gS is of another width, stride or number of tokens in each.
"""

from __future__ import annotations

import os
from itertools import product

import pytest

from examples import digits
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import transplant
from tests.support.families import FAMILIES, Family, shared_task, teacher

DIGIT = 3
RECIPE = TransplantRecipe(steps=300)
"""The default, shorter."""
ROUND: tuple[tuple[Family, Family], ...] = (("vgg", "vit"), ("vit", "mlp"), ("mlp", "resnet"), ("resnet", "vgg"))
PAIRS = tuple(product(FAMILIES, FAMILIES)) if os.environ.get("GRAFTERY_PAIRS") == "all" else ROUND
REACHED = 0.85
"""Of the teacher's balanced accuracy."""


@pytest.mark.slow
@pytest.mark.parametrize("category, task", PAIRS, ids=lambda family: family)
def test_every_family_is_transplanted_to_every_other_without_labels(category: Family, task: Family) -> None:
    f, own = teacher(category, DIGIT)
    held_out = digits.one_against_rest(DIGIT, "test")
    done = transplant(f, shared_task(task), teacher_task=own, recipe=RECIPE, evaluate_on=held_out)
    ours, theirs = (done.metrics[name]["balanced_accuracy"] for name in ("adapter", "teacher"))
    print(f"{category} to {task}: {ours:.3f} of {theirs:.3f}")
    assert theirs > 0.85
    assert ours >= REACHED * theirs

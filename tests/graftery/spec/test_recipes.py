from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from graftery.spec.recipes import DEFAULT_OBJECTIVES, TransplantRecipe


@pytest.mark.parametrize(
    "bad",
    [
        {"objectives": {"magic": 1}},
        {"objectives": {"direct": -1}},
        {"sources": ["internet"]},
        {"steps": -1},
        {"batch": 1},
        {"learning_rate": 0},
        {"temperature": 0},
        {"adapter": {"kernel": 2}},
        {"adapter": {"choose": [9]}},
        {"adapter": {"choose": [2, 2]}},
        {"adapter": {"choose": [1, 2], "layers": 1}},
        {"adapter": {"layers": 9}},
        {"inversion": {"images": 1}},
        {"unknown": 1},
    ],
)
def test_values_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TransplantRecipe.model_validate(bad)


def test_a_recipe_survives_json() -> None:
    recipe = TransplantRecipe(objectives={"direct": 1.5}, sources=("samples",), seed=2**53 - 1)
    assert TransplantRecipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_the_default_terms_are_weighted_as_the_documents_say() -> None:
    assert DEFAULT_OBJECTIVES["distillation"] == 4 * DEFAULT_OBJECTIVES["back_distillation"]
    assert 0 < DEFAULT_OBJECTIVES["direct"] < 1

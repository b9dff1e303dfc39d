from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from graftery.spec.recipes import TransplantRecipe
from graftery.spec.wire import TransplantRequest
from graftery.spec.wording import MAX_LISTED, Wrong, details_of, wrong_fields


def _wrong(value: Any, model: type[BaseModel] = TransplantRecipe) -> list[Wrong]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return wrong_fields(caught.value.errors(), model, "recipe")


@pytest.mark.parametrize(
    ("value", "at", "problem"),
    [
        ({"batch": 0}, "recipe.batch", "0 is not allowed: it has to be a whole number from 2 to 65536"),
        ({"batch": "x"}, "recipe.batch", "'x' is not allowed: it has to be a whole number from 2 to 65536"),
        ({"learning_rate": 0}, "recipe.learning_rate", "0 is not allowed: it has to be a number above 0, at most 10"),
        ({"learning_rate": float("nan")}, "recipe.learning_rate", "nan is not allowed: it has to be a number above 0"),
        (
            {"seed": 2**53},
            "recipe.seed",
            "9007199254740992 is not allowed: it has to be a whole number at least 0, below",
        ),
        (
            {"adapter": {"kernel": 11}},
            "recipe.adapter.kernel",
            "11 is not allowed: it has to be a whole number from 1 to 9",
        ),
        ({"adapter": {"kernel": 2}}, "recipe.adapter", "kernel has to be odd: 1, 3, 5, 7 or 9"),
        (
            {"adapter": {"final_relu": "perhaps"}},
            "recipe.adapter.final_relu",
            "'perhaps' is not allowed: it has to be true",
        ),
        (
            {"objectives": {"direct": -1}},
            "recipe.objectives.direct",
            "-1 is not allowed: it has to be a number from 0 to 1000000",
        ),
        ({"sources": "noise"}, "recipe.sources", "Input should be a valid tuple"),
        ({"x" * 99: 1}, f"recipe.{'x' * 99}", "there is no such field; there is objectives, sources, labels, steps,"),
    ],
)
def test_a_value_out_of_range_is_told_its_field_and_its_range(value: Any, at: str, problem: str) -> None:
    found = _wrong(value)
    assert found[0].at == at
    assert found[0].problem.startswith(problem)
    assert found[0].near == []


@pytest.mark.parametrize(
    ("value", "at", "near"),
    [
        ({"lerning_rate": 1}, "recipe.lerning_rate", ["learning_rate"]),
        ({"inversion": {"step": 3}}, "recipe.inversion.step", ["steps"]),
        ({"objectives": {"distilation": 1}}, "recipe.objectives.distilation", ["distillation", "back_distillation"]),
        ({"sources": ["noise", "moment"]}, "recipe.sources.1", ["moments"]),
    ],
)
def test_a_name_that_is_not_known_is_told_those_like_it(value: Any, at: str, near: list[str]) -> None:
    found = _wrong(value)
    assert (found[0].at, found[0].near) == (at, near)
    assert f"did you mean {near[0]}" in found[0].problem


def test_a_choice_is_told_all_of_them() -> None:
    assert "one of samples, unlabelled, noise, inversion, moments" in _wrong({"sources": ["internet"]})[0].problem


def test_a_long_value_is_shortened() -> None:
    assert len(_wrong({"batch": "9" * 1000})[0].problem) < 200


def test_any_model_and_all_errors() -> None:
    found = _wrong({"nam": "n", "task": "t"}, TransplantRequest)
    assert [(each.at, each.near) for each in found] == [
        ("recipe.name", []),
        ("recipe.category", []),
        ("recipe.nam", ["name"]),
    ]
    assert details_of(found)["errors"][2]["near"] == ["name"]
    assert "near" not in details_of(found)
    assert details_of(found[2:])["near"] == ["name"]
    assert len(details_of(found * 20)["errors"]) == MAX_LISTED

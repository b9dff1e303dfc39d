from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftery.errors import RecipeRefused
from graftery.spec.plan import TEACHING, complete
from graftery.spec.recipes import DENSE_INVERSION, InversionRecipe, TransplantRecipe

NOTHING: dict[str, Any] = {
    "labels": 0,
    "unlabelled": False,
    "teacher_task": True,
    "batch_norm": False,
    "sketch": False,
    "dense": False,
    "image_input": True,
    "crops": False,
}


def _complete(recipe: TransplantRecipe | None = None, **at_hand: Any) -> TransplantRecipe:
    return complete(recipe or TransplantRecipe(), **{**NOTHING, **at_hand})


@pytest.mark.parametrize(
    "at_hand, objectives, sources",
    [
        ({}, {"distillation", "back_distillation"}, ("noise",)),
        ({"batch_norm": True}, {"distillation", "back_distillation"}, ("inversion", "noise")),
        ({"batch_norm": True, "unlabelled": True}, {"distillation", "back_distillation"}, ("unlabelled", "inversion")),
        ({"sketch": True}, {"distillation", "back_distillation"}, ("moments",)),
        ({"unlabelled": True}, {"distillation", "back_distillation"}, ("unlabelled",)),
        ({"labels": 10}, {"distillation", "back_distillation", "direct"}, ("samples", "noise")),
        (
            {"labels": 10, "batch_norm": True},
            {"distillation", "back_distillation", "direct"},
            ("samples", "inversion", "noise"),
        ),
        ({"batch_norm": True, "dense": True}, {"distillation"}, ("inversion", "noise")),
        ({"batch_norm": True, "sketch": True, "dense": True}, {"distillation"}, ("inversion", "noise")),
        (
            {"unlabelled": True, "batch_norm": True, "sketch": True, "dense": True},
            {"distillation"},
            ("unlabelled", "inversion"),
        ),
        ({"sketch": True, "dense": True}, {"distillation"}, ("moments", "noise")),
        ({"batch_norm": True, "sketch": True, "crops": True, "dense": True}, {"distillation"}, ("inversion", "noise")),
        ({"unlabelled": True, "sketch": True, "crops": True, "dense": True}, {"distillation"}, ("unlabelled",)),
        (
            {"labels": 10, "sketch": True, "crops": True, "dense": True},
            {"distillation", "direct"},
            ("samples", "crops"),
        ),
        ({"sketch": True, "crops": True}, {"distillation", "back_distillation"}, ("moments",)),
        ({"labels": 10, "dense": True}, {"distillation", "direct"}, ("samples", "noise")),
        ({"labels": 10, "teacher_task": False}, {"direct"}, ("samples",)),
    ],
)
def test_the_default_follows_what_is_at_hand(at_hand: dict[str, Any], objectives: set[str], sources: object) -> None:
    done = _complete(**at_hand)
    assert set(done.objectives) == objectives
    assert done.sources == sources


@pytest.mark.parametrize(
    "recipe, at_hand, code",
    [
        ({}, {"teacher_task": False}, "samples_missing"),
        ({"objectives": {"direct": 1}}, {}, "samples_missing"),
        ({"objectives": {"direct": 1}, "labels": 0}, {"labels": 5}, "samples_missing"),
        ({"labels": 6}, {"labels": 5}, "samples_missing"),
        ({"sources": ["samples"]}, {}, "samples_missing"),
        ({"sources": ["unlabelled"]}, {}, "samples_missing"),
        ({"sources": ["inversion"]}, {}, "recipe_invalid"),
        ({"sources": ["moments"]}, {}, "recipe_invalid"),
        ({"sources": ["crops"]}, {"sketch": True}, "recipe_invalid"),
        ({"sources": ["noise", "noise"]}, {}, "recipe_invalid"),
        (
            {"batch": 2, "sources": ["samples", "noise", "unlabelled"]},
            {"labels": 5, "unlabelled": True},
            "recipe_invalid",
        ),
        ({"objectives": {"distillation": 1}}, {"teacher_task": False}, "recipe_invalid"),
        ({"objectives": {"distillation": 0}}, {}, "recipe_invalid"),
        ({"objectives": {"direct": 1}, "sources": ["noise"]}, {"labels": 5}, "recipe_invalid"),
        ({"objectives": {"direct": 1}, "sources": ["samples", "noise"]}, {"labels": 5}, "recipe_invalid"),
        ({"adapter": {"choose": [1, 2]}}, {"labels": 5, "teacher_task": False}, "recipe_invalid"),
    ],
)
def test_what_cannot_be_done_is_refused(recipe: dict[str, Any], at_hand: dict[str, Any], code: str) -> None:
    with pytest.raises(RecipeRefused) as caught:
        _complete(TransplantRecipe.model_validate(recipe), **at_hand)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("source", "way"), [("moments", "push --sketch"), ("crops", "--sketch-crops"), ("inversion", "noise")]
)
def test_a_source_that_is_not_there_comes_with_a_way_out(source: str, way: str) -> None:
    with pytest.raises(RecipeRefused) as caught:
        _complete(TransplantRecipe.model_validate({"sources": [source]}))
    assert way in (caught.value.hint or "")


def test_direct_alone_learns_from_samples_alone() -> None:
    done = _complete(TransplantRecipe(objectives={"direct": 1}), labels=5, batch_norm=True)
    assert done.sources == ("samples",)


@pytest.mark.parametrize(
    "at_hand, sources",
    [
        ({"batch_norm": True}, ("inversion",)),
        ({}, ("noise",)),
        ({"batch_norm": True, "dense": True}, ("inversion", "noise")),
    ],
)
def test_linear_stand_ins_need_noise_only_where_nothing_else_is(
    at_hand: dict[str, Any], sources: tuple[str, ...]
) -> None:
    assert _complete(TransplantRecipe(objectives={"pseudo_gradient": 1}), **at_hand).sources == sources
    both = TransplantRecipe(objectives={"pseudo_gradient": 1, "distillation": 1})
    assert _complete(both, **at_hand).sources == _complete(**at_hand).sources


def test_samples_that_are_not_asked_for_are_not_used() -> None:
    done = _complete(TransplantRecipe(labels=0), labels=5)
    assert "direct" not in done.objectives
    assert done.sources == ("noise",)
    only_noise = _complete(TransplantRecipe(sources=("noise",)), labels=5)
    assert "direct" not in only_noise.objectives


def test_noise_is_matched_for_dense_outputs_unless_the_recipe_says() -> None:
    assert _complete().noise.matched is False
    assert _complete(dense=True).noise.matched is True
    named = TransplantRecipe.model_validate({"noise": {"matched": False}})
    assert _complete(named, dense=True).noise.matched is False


def test_dense_outputs_take_a_longer_inversion_of_what_the_recipe_does_not_name() -> None:
    wanted = InversionRecipe.model_validate(DENSE_INVERSION)
    assert _complete(dense=True).inversion == wanted
    assert _complete(_complete(dense=True), dense=True).inversion == wanted
    assert _complete().inversion == InversionRecipe()
    usual = InversionRecipe().steps
    named = TransplantRecipe.model_validate({"inversion": {"steps": usual}})
    assert _complete(named, dense=True).inversion == wanted.model_copy(update={"steps": usual})
    stored = TransplantRecipe.model_validate_json(_complete(named).model_dump_json())
    assert _complete(stored, dense=True).inversion == InversionRecipe(), "a complete recipe names all"


def test_dense_outputs_get_three_layers_and_a_named_number_stays() -> None:
    assert _complete().adapter.layers == 1
    assert _complete(dense=True).adapter.layers == 3
    named = TransplantRecipe.model_validate({"adapter": {"layers": 2}})
    assert _complete(named, dense=True).adapter.layers == 2


def test_inputs_that_are_no_images_are_not_shifted() -> None:
    assert _complete(image_input=False).augment.shift == 0


@given(labels=st.integers(0, 20), flags=st.fixed_dictionaries({n: st.booleans() for n in NOTHING if n != "labels"}))
def test_a_complete_recipe_is_complete(labels: int, flags: dict[str, bool]) -> None:
    if not labels and not flags["teacher_task"]:
        return
    done = complete(TransplantRecipe(), labels=labels, **flags)
    assert done == complete(done, labels=labels, **flags)
    assert done == TransplantRecipe.model_validate(done.model_dump())
    assert None not in (done.labels, done.adapter.layers)
    assert flags["teacher_task"] or not TEACHING & done.objectives.keys()


def test_plan_and_fit_need_no_torch() -> None:
    code = "import sys, graftery.spec.plan, graftery.spec.fit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_exponents_of_noise_that_are_the_wrong_way_round_are_refused() -> None:
    for noise in ({"alpha_min": 3.0, "alpha_max": 1.0}, {"alpha_min": 3.0}):
        with pytest.raises(RecipeRefused, match="alpha_min 3 is above alpha_max"):
            _complete(TransplantRecipe.model_validate({"noise": noise}))

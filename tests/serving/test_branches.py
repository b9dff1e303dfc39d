"""What is left of a model once it is known which outputs are asked for."""

from __future__ import annotations

import pytest

from graftery.errors import InferenceRefused
from graftery.spec.manifest import OutputSpec, Preprocessing
from serving.branches import Branch, Cell, Model, Output
from serving.protocol import Declared

SPEC = OutputSpec(dtype="float32", shape=("N", 1))
IMAGE = Declared("input", "FP32", (-1, 1, 8, 8))


def _branch(category: str, task: str, image: Declared = IMAGE, prepared: Preprocessing | None = None) -> Branch:
    name = f"{category}..{task}"
    output = Output(Declared(name, "FP32", (-1, 1)), "y", SPEC)
    return Branch(
        f"h {name}", f"t {task}", (output,), cell=Cell(category, task, "n:1", f"f {category}", image, prepared)
    )


def _model(*branches: Branch) -> Model:
    parts = dict.fromkeys(
        digest
        for branch in branches
        for digest in (branch.cell.first if branch.cell else "", branch.adapter or "", branch.task)
    )
    sizes = {digest: size for size, digest in enumerate(parts, 1)}
    return Model("zoo", 3, next(iter(parts)), IMAGE, None, branches, sizes, unready={"owl..is": "missing"})


def test_of_a_generic_network_only_what_is_asked_for_is_left() -> None:
    model = _model(_branch("cat", "is"), _branch("cat", "turn"), _branch("dog", "is"))
    asked = model.asked(["dog..is", "cat..turn"])
    assert [branch.cell.category for branch in asked.branches if branch.cell] == ["cat", "dog"]
    assert set(asked.parts) == {"f cat", "h cat..turn", "t turn", "f dog", "h dog..is", "t is"}
    assert asked.parts["t is"] == model.parts["t is"]
    assert (asked.name, asked.version, asked.key) == ("zoo", "3", "zoo")
    assert [asked.first(branch) for branch in asked.branches] == ["f cat", "f dog"]


def test_any_other_model_stays_whole() -> None:
    output = Output(Declared("is", "FP32", (-1, 1)), "is", SPEC)
    model = Model("n", 3, "f", IMAGE, None, (Branch(None, "t", (output,)),), {"f": 1, "t": 2})
    assert model.asked(["is"]) is model and model.key == "n:3"
    assert model.inputs == [(IMAGE, None, [])] and model.first(model.branches[0]) == "f"
    assert model.why_unready("owl..is") is None


def test_an_output_that_is_to_come_says_why_it_is_not_there() -> None:
    model = _model(_branch("cat", "is"))
    assert model.why_unready("owl..is") == model.why_unready("owl..is..left") == "missing"
    assert model.why_unready("owl") is None and model.why_unready("cat..is") is None


@pytest.mark.parametrize(
    ("image", "prepared", "said"),
    [
        (Declared("input", "FP64", (-1, 1, 8, 8)), None, "datatype FP32 against FP64"),
        (Declared("input", "FP32", (-1, 3, 8, 8)), None, r"shape \[N, 1, 8, 8\] against \[N, 3, 8, 8\]"),
        (IMAGE, Preprocessing(mean=(0.5,), std=(1.0,)), r"mean unsaid against \[0.5\]; std unsaid against \[1.0\]"),
    ],
)
def test_categories_of_different_inputs_do_not_go_together(
    image: Declared, prepared: Preprocessing | None, said: str
) -> None:
    model = _model(_branch("cat", "is"), _branch("dog", "is", image, prepared), _branch("owl", "turn"))
    with pytest.raises(InferenceRefused, match=f"cat and dog read different inputs: {said}"):
        model.asked(["cat..is", "dog..is"])
    assert model.asked(["dog..is"]).input == image and model.asked(["dog..is"]).preprocessing == prepared
    assert model.asked(["cat..is", "owl..turn"]).input == IMAGE
    assert model.inputs == [(IMAGE, None, ["cat", "owl"]), (image, prepared, ["dog"])]


def test_what_two_preparations_differ_in_is_named_alone() -> None:
    one, other = (Preprocessing(mean=(0.5,), std=(1.0,), colour_order=order) for order in ("RGB", "BGR"))
    model = _model(_branch("cat", "is", prepared=one), _branch("dog", "is", prepared=other))
    with pytest.raises(InferenceRefused, match="different inputs: colour_order RGB against BGR") as found:
        model.asked(["cat..is", "dog..is"])
    assert found.value.hint is not None

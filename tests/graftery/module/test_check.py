"""Messages of the static check; its codes are the business of tests/attacks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graftery.errors import GraphRefused, ModuleFileError
from graftery.module.check import read_document
from graftery.module.meaning import check_meaning
from graftery.spec.limits import Limits
from graftery.spec.manifest import Manifest, OutputSpec, Preprocessing, TensorSpec
from tests.support.hostile_parts import document

TENSORS = ("weight", "probe.x", "probe.y", "sketch.mean")


def _refusal(doc: dict[str, object], tensors: tuple[str, ...] = TENSORS) -> str:
    with pytest.raises(ModuleFileError) as caught:
        read_document(json.dumps(doc), tensors, Limits())
    return caught.value.message


def test_good_document() -> None:
    manifest, graph = read_document(json.dumps(document()), TENSORS, Limits())
    assert manifest.kind == "category"
    assert graph.operators() == ("aten.linear.default",)


def test_refusals_name_node_layer_and_operator() -> None:
    node = ["aten.linear.default", "v0", [{"v": "x0"}, {"w": "missing"}]]
    message = _refusal(document([node], names={"head.fc": "v0"}))
    assert message == "node v0 (head.fc) aten.linear.default: names the weight 'missing', which the file lacks"


def test_refusals_say_what_was_expected_and_what_came() -> None:
    node = ["aten.flatten.using_ints", "v0", [{"v": "x0"}, "one"]]
    assert _refusal(document([node])) == "node v0 aten.flatten.using_ints: argument 'start_dim' needs int, got one"


def test_manifest_errors_name_the_field() -> None:
    doc = document()
    doc["manifest"]["kind"] = "samples"
    assert _refusal(doc).startswith("manifest.kind: ")


def test_named_arguments_are_checked_like_positional_ones() -> None:
    good = ["aten.flatten.using_ints", "v0", [{"v": "x0"}], {"start_dim": 1}]
    read_document(json.dumps(document([good])), ("probe.x",), Limits())
    bad = ["aten.flatten.using_ints", "v0", [{"v": "x0"}], {"start_dim": 1.5}]
    assert "start_dim" in _refusal(document([bad]), ("probe.x",))


@pytest.mark.parametrize(
    "args",
    [
        [{"v": "x0"}, 0, 0, 2**63 - 1],
        [{"v": "x0"}, 0, None, {"N": 1}],
        [{"v": "x0"}, 0, {"v": "v1"}],
    ],
    ids=["open_end", "batch", "size"],
)
def test_sizes_may_be_open_symbolic_or_none(args: list[object]) -> None:
    nodes = [["aten.sym_size.int", "v1", [{"v": "x0"}, 1]], ["aten.slice.Tensor", "v0", args]]
    read_document(json.dumps(document(nodes)), (), Limits())


def test_positions_may_be_made_from_weights_and_numbers() -> None:
    nodes = [
        ["aten.arange.default", "v1", [3]],
        ["aten.add.Tensor", "v2", [{"v": "v1"}, {"w": "at"}]],
        ["aten.index_select.default", "v0", [{"v": "x0"}, 1, {"v": "v2"}]],
    ]
    read_document(json.dumps(document(nodes)), ("at",), Limits())


def test_caps_are_the_caller_s() -> None:
    with pytest.raises(GraphRefused, match="2 nodes, 1 are allowed"):
        read_document(
            json.dumps(document([["aten.relu.default", f"v{i}", [{"v": "x0"}]] for i in (0, 1)])), (), Limits(nodes=1)
        )


def _manifest(kind: str, outputs: dict[str, dict[str, object]]) -> Manifest:
    spec = {"dtype": "float32", "shape": ["N", 4]}
    return Manifest.model_validate({"kind": kind, "input": spec, "outputs": outputs})


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("task", {name: {"dtype": "float32", "shape": ["N", 3]} for name in ("a", "b")}),
        ("teacher", {"a": {"dtype": "float32", "shape": ["N", 3, 4], "semantics": "classification"}}),
        ("teacher", {"a": {"dtype": "float32", "shape": ["N", 3], "semantics": "segmentation"}}),
        (
            "teacher",
            {"a": {"dtype": "float32", "shape": ["N", 3], "semantics": "classification", "class_names": ["x"]}},
        ),
    ],
    ids=["two_outputs", "logits_of_rank_3", "masks_of_rank_2", "class_names"],
)
def test_meanings_that_shapes_contradict_are_refused(kind: str, outputs: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ModuleFileError) as caught:
        check_meaning(_manifest(kind, outputs))
    assert caught.value.code == "manifest_invalid"


@pytest.mark.parametrize("classes", [["no", "yes"], ["cat"]])
def test_one_logit_has_one_or_two_class_names(classes: list[str]) -> None:
    output = {"dtype": "float32", "shape": ["N", 1], "semantics": "classification", "class_names": classes}
    check_meaning(_manifest("task", {"cat": output}))


@pytest.mark.parametrize(
    "said",
    [
        {"mean": (0.5, 0.5), "std": (0.5,)},
        {"mean": (0.5,), "std": (0.5, 0.5)},
        {"mean": (), "std": (0.5,)},
        {"mean": (0.5,), "std": (0.0,)},
        {"mean": (0.5,), "std": (0.5, 0.5, -0.5)},
        {"mean": (0.5,), "std": (0.5,), "value_range": (1.0, 1.0)},
    ],
)
def test_a_preprocessing_that_no_image_can_have_had_is_refused(said: dict[str, Any]) -> None:
    fine = _of_images(Preprocessing(mean=(0.5,), std=(0.5, 0.5, 0.5)))
    check_meaning(fine)
    with pytest.raises(ModuleFileError) as caught:
        check_meaning(_of_images(Preprocessing(**said)))
    assert caught.value.code == "manifest_invalid"
    assert "preprocessing" in caught.value.message


def _of_images(said: Preprocessing) -> Manifest:
    output = OutputSpec(dtype="float32", shape=("N", 8), semantics="feature")
    image = TensorSpec(dtype="float32", shape=("N", 3, "H", "W"))
    return Manifest(kind="category", input=image, outputs={"features": output}, preprocessing=said)

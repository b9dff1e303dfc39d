from __future__ import annotations

from typing import Any

import pytest

from graftery.errors import Misfit
from graftery.spec.fit import check_join
from graftery.spec.manifest import Manifest

PREPROCESSING = {"mean": [0.5], "std": [0.25]}


def _manifest(kind: str, shape: list[Any], out: list[Any], *, dtype: str = "float32", **output: Any) -> Manifest:
    preprocessing = output.pop("preprocessing", None)
    spec = {"dtype": dtype, "shape": out, **output}
    fields = {"kind": kind, "input": {"dtype": dtype, "shape": shape}, "outputs": {"y": spec}}
    return Manifest.model_validate({**fields, "preprocessing": preprocessing})


def _category(features: list[Any], **more: Any) -> Manifest:
    return _manifest("category", ["N", 3, 8, 8], features, **more)


def _task(features: list[Any], logits: int = 1, **more: Any) -> Manifest:
    return _manifest("task", features, ["N", logits], **{"semantics": "classification", **more})


IMAGE = ["N", 8, 4, 4]


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (IMAGE, ["N", 16, 2, 2]),
        (IMAGE, ["N", 8, "H", "W"]),
        (["N", 5], ["N", 7]),
        (["N", 4, 5], ["N", 4, 7]),
        (["N", 4, 5], ["N", 6, 5]),
        (["N", "H", 5], ["N", 6, 7]),
        (["N", 8, "H", "W"], ["N", 17, 5]),
        (["N", 17, 5], ["N", 8, "H", "W"]),
        (["N", 17, 5], ["N", 8]),
        (IMAGE, ["N", 9]),
        (["N", 9], IMAGE),
        (["N", 9], ["N", "H", 5]),
    ],
)
def test_an_adapter_joins_features_of_any_kind(ours: list[Any], theirs: list[Any]) -> None:
    check_join(_category(ours), _task(theirs), _task(ours), with_adapter=True)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (["N", 2, 2, 2, 2], ["N", 2, 2, 2, 2]),
        (["N"], ["N", 4]),
        (["N", "H"], ["N", 4]),
        (IMAGE, ["N", 4, "H"]),
        (["N", 0, 4], IMAGE),
    ],
)
def test_no_adapter_joins_features_of_no_kind_or_of_unknown_width(ours: list[Any], theirs: list[Any]) -> None:
    with pytest.raises(Misfit, match="no adapter") as caught:
        check_join(_category(ours), _task(theirs), with_adapter=True, force=True)
    assert caught.value.code == "shape_mismatch"


def test_no_adapter_joins_another_dtype() -> None:
    with pytest.raises(Misfit, match="no adapter"):
        check_join(_category(IMAGE, dtype="float64"), _task(IMAGE), with_adapter=True, force=True)


def test_who_has_an_adapter_is_not_told_to_learn_one() -> None:
    adapter = _manifest("adapter", IMAGE, IMAGE, semantics="feature")
    for ours, theirs in ((["N", 9, 4, 4], IMAGE), (IMAGE, ["N", 9, 4, 4])):
        with pytest.raises(Misfit, match="the adapter's") as caught:
            check_join(_category(ours), _task(theirs), adapter=adapter, with_adapter=False)
        assert "learned for other modules" in (caught.value.hint or "")


def test_without_an_adapter_shapes_are_exact() -> None:
    check_join(_category(IMAGE), _task(IMAGE), with_adapter=False)
    check_join(_category(IMAGE), _task(["N", 8, "H", "W"]), with_adapter=False)
    with pytest.raises(Misfit, match=r"float32 \[N, 8, 4, 4\], but the task's input is float32 \[N, 9, 4, 4\]"):
        check_join(_category(IMAGE), _task(["N", 9, 4, 4]), with_adapter=False)
    with pytest.raises(Misfit):
        check_join(_category(IMAGE, dtype="float64"), _task(IMAGE), with_adapter=False)


def test_an_adapter_at_hand_fits_on_both_sides() -> None:
    other = ["N", 9, 4, 4]
    adapter = _manifest("adapter", IMAGE, other)
    check_join(_category(IMAGE), _task(other), adapter=adapter, with_adapter=False)
    for f, g in ((_category(other), _task(other)), (_category(IMAGE), _task(IMAGE))):
        with pytest.raises(Misfit):
            check_join(f, g, adapter=adapter, with_adapter=False)


def test_the_teacher_task_takes_the_features_as_they_are_and_gives_the_same_outputs() -> None:
    with pytest.raises(Misfit, match="teacher task's input"):
        check_join(_category(IMAGE), _task(IMAGE), _task(["N", 9, 4, 4]), with_adapter=True, force=True)
    with pytest.raises(Misfit, match="output") as caught:
        check_join(_category(IMAGE), _task(IMAGE, 3), _task(IMAGE, 4), with_adapter=True, force=True)
    assert caught.value.code == "shape_mismatch"


@pytest.mark.parametrize(
    "ours, theirs, code",
    [
        ({"semantics": "classification"}, {"semantics": "regression"}, "semantics_mismatch"),
        ({"class_names": ["a", "b"]}, {"class_names": ["b", "a"]}, "semantics_mismatch"),
        ({"unit": "m"}, {"unit": "kg"}, "semantics_mismatch"),
        ({"preprocessing": PREPROCESSING}, {}, None),
        ({"class_names": ["a", "b"]}, {}, None),
    ],
)
def test_meanings_agree_unless_forced(ours: dict[str, Any], theirs: dict[str, Any], code: str | None) -> None:
    parts = _category(IMAGE), _task(IMAGE, 2, **ours), _task(IMAGE, 2, **theirs)
    check_join(*parts, with_adapter=True, force=True)
    if code is None:
        return check_join(*parts, with_adapter=True)
    with pytest.raises(Misfit) as caught:
        check_join(*parts, with_adapter=True)
    assert caught.value.code == code
    return None


def test_the_one_class_of_a_one_logit_net_is_the_category_itself() -> None:
    parts = _task(IMAGE, class_names=["dog"]), _task(IMAGE, class_names=["cat"])
    check_join(_category(IMAGE), *parts, with_adapter=True)


@pytest.mark.parametrize("place", ["task", "teacher"])
def test_preprocessing_agrees_unless_forced(place: str) -> None:
    other = _task(IMAGE, preprocessing={"mean": [0.1], "std": [1.0]})
    plain = _task(IMAGE)
    parts = (other, plain) if place == "task" else (plain, other)
    category = _category(IMAGE, preprocessing=PREPROCESSING)
    check_join(category, *parts, with_adapter=True, force=True)
    with pytest.raises(Misfit) as caught:
        check_join(category, *parts, with_adapter=True)
    assert caught.value.code == "preprocessing_mismatch"


def test_kinds_are_not_mixed_up() -> None:
    f, g = _category(IMAGE), _task(IMAGE)
    for parts in ((g, g), (f, f)):
        with pytest.raises(Misfit) as caught:
            check_join(*parts, with_adapter=True, force=True)
        assert caught.value.code == "kind_mismatch"


def test_a_task_has_one_output() -> None:
    g = _task(IMAGE)
    two = g.model_copy(update={"outputs": {**g.outputs, "z": g.outputs["y"]}})
    with pytest.raises(Misfit, match="must have one"):
        check_join(_category(IMAGE), two, with_adapter=True, force=True)

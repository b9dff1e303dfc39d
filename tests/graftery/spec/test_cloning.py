from __future__ import annotations

import pytest

from graftery.errors import GrafteryError, Misfit, RecipeRefused
from graftery.spec.cloning import check_inputs, classes_of, wanted_indices
from graftery.spec.manifest import Manifest, OutputSpec, Preprocessing, TensorSpec


def _manifest(names: tuple[str, ...] | None = None, classes: int = 3, side: int = 8, mean: float = 0.5) -> Manifest:
    output = OutputSpec(dtype="float32", shape=("N", classes), semantics="classification", class_names=names)
    return Manifest(
        kind="teacher",
        input=TensorSpec(dtype="float32", shape=("N", 1, side, side)),
        outputs={"is": output},
        preprocessing=Preprocessing(mean=(mean,), std=(1,)),
    )


SOURCE, TARGET = _manifest(("a", "b", "c")), _manifest(("c", "d", "e"))


def test_wanted_classes_are_found_by_name() -> None:
    assert wanted_indices(SOURCE, TARGET, ["b", "a"]) == (1, 0)
    assert classes_of(_manifest()) == ("class 0", "class 1", "class 2")
    assert wanted_indices(_manifest(classes=5), _manifest(), ["class 4"]) == (4,)


@pytest.mark.parametrize(
    ("wanted", "kind", "code"),
    [
        ([], RecipeRefused, "recipe_invalid"),
        (["a", "a"], RecipeRefused, "recipe_invalid"),
        (["z"], RecipeRefused, "class_unknown"),
        (["c"], Misfit, "class_known"),
    ],
)
def test_wanted_classes_that_cannot_be_are_refused(wanted: list[str], kind: type[GrafteryError], code: str) -> None:
    with pytest.raises(kind) as caught:
        wanted_indices(SOURCE, TARGET, wanted)
    assert caught.value.code == code


@pytest.mark.parametrize("semantics", ["regression", "feature"])
def test_only_classifiers_have_classes(semantics: str) -> None:
    output = SOURCE.outputs["is"].model_copy(update={"semantics": semantics, "class_names": None})
    for outputs in ({"is": output}, {"is": SOURCE.outputs["is"], "other": SOURCE.outputs["is"]}):
        with pytest.raises(Misfit) as caught:
            classes_of(SOURCE.model_copy(update={"outputs": outputs}))
        assert caught.value.code == "semantics_mismatch"


@pytest.mark.parametrize(
    ("source", "code"), [(_manifest(side=9), "shape_mismatch"), (_manifest(mean=0.4), "preprocessing_mismatch")]
)
def test_nets_that_read_other_images_are_refused(source: Manifest, code: str) -> None:
    with pytest.raises(Misfit) as caught:
        check_inputs(source, TARGET)
    assert caught.value.code == code
    check_inputs(source.model_copy(update={"preprocessing": None, "input": TARGET.input}), TARGET)


def test_names_that_both_nets_make_up_are_there_once() -> None:
    with pytest.raises(Misfit, match="names of its classes") as caught:
        wanted_indices(_manifest(), _manifest(), ["class 1"])
    assert caught.value.code == "class_known"

from __future__ import annotations

import pytest

from graftery.errors import SamplesRefused
from graftery.spec.labels import check_labels, check_measured, check_taught
from graftery.spec.manifest import LabelFacts, OutputSpec, Semantics, Size


def _meaning(semantics: Semantics, *shape: Size, names: tuple[str, ...] | None = None) -> OutputSpec:
    return OutputSpec(dtype="float32", shape=("N", *shape), semantics=semantics, class_names=names)


def _facts(*classes: int, whole: bool = True) -> LabelFacts:
    known = classes if whole and min(classes) >= 0 else None
    return LabelFacts(least=min(classes), greatest=max(classes), whole=whole, classes=known)


ANIMALS = _meaning("classification", 3, names=("cat", "dog", "horse"))
MASK = _meaning("segmentation", 1, 8, 8)


@pytest.mark.parametrize(
    ("shape", "facts", "meaning", "said"),
    [
        (("N",), _facts(0, 1, 3), ANIMALS, "from 0 to 3, the task's classes are 0 to 2 (cat, dog, horse)"),
        (("N",), _facts(-1, 1), ANIMALS, "from -1 to 1"),
        (("N",), _facts(0, 2, whole=False), ANIMALS, "no whole numbers"),
        (("N",), _facts(0, 2), _meaning("classification", 1), "classes are 0 to 1"),
        (("N",), _facts(0, 255), ANIMALS, "from 0 to 255"),
        (("N", 1), _facts(0, 1), ANIMALS, "are [N, 1]; those of a classification are [n]"),
        (("N", 8, 8), _facts(0, 254), MASK, "from 0 to 254"),
        (("N", 8, 7), _facts(0, 1), MASK, "those of a segmentation are [n, 8, 8]"),
        (("N",), _facts(0, 1), MASK, "those of a segmentation"),
        (("N", 3), _facts(0, 1), _meaning("regression", 2), "those of a regression are [n, 2]"),
        (("N", 2), _facts(0, 1), _meaning("feature", 2), "which has none"),
    ],
)
def test_labels_that_do_not_fit_the_task_are_told_what_would(
    shape: tuple[Size, ...], facts: LabelFacts, meaning: OutputSpec, said: str
) -> None:
    with pytest.raises(SamplesRefused) as caught:
        check_labels(shape, facts, meaning, "samples cats:1")
    assert caught.value.code == "samples_invalid"
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("shape", "facts", "meaning"),
    [
        (("N",), _facts(0, 1, 2), ANIMALS),
        (("N",), _facts(1), ANIMALS),
        (("N",), None, ANIMALS),
        (("N",), LabelFacts(least=0, greatest=9999, whole=True), _meaning("classification", 10_000)),
        (("N", 8, 8), _facts(0, 1, 255), MASK),
        (("N", 8, 8), _facts(255), MASK),
        (("N", 5, 4), _facts(0, 1), _meaning("segmentation", 1, "H", "W")),
        (("N", 2), _facts(-7, 9, whole=False), _meaning("regression", 2)),
    ],
)
def test_labels_that_fit(shape: tuple[Size, ...], facts: LabelFacts | None, meaning: OutputSpec) -> None:
    check_labels(shape, facts, meaning, "samples")


@pytest.mark.parametrize(
    ("facts", "meaning", "said"),
    [
        (_facts(1), ANIMALS, "the class 1 (dog) only"),
        (_facts(0), _meaning("classification", 1, names=("cat",)), "the class 0 only"),
        (_facts(0, 255), MASK, "the class 0 only"),
        (_facts(255), MASK, "no class at all"),
    ],
)
def test_one_class_is_no_measure_and_no_teacher(facts: LabelFacts, meaning: OutputSpec, said: str) -> None:
    with pytest.raises(SamplesRefused, match="measure on samples of every class") as measured:
        check_measured(facts, meaning, "evaluate_on cats:1")
    assert said in measured.value.message
    with pytest.raises(SamplesRefused, match="give them as unlabelled"):
        check_taught(facts, meaning, "samples cats:1", 10)


def test_what_is_not_known_or_has_no_classes_passes() -> None:
    for facts, meaning in ((None, ANIMALS), (_facts(3), _meaning("regression", 1)), (_facts(0, 1), ANIMALS)):
        check_measured(facts, meaning, "evaluate_on")
        check_taught(facts, meaning, "samples", 2)


def test_one_image_has_pixels_of_several_classes() -> None:
    check_taught(_facts(0, 1), MASK, "samples", 1)
    with pytest.raises(SamplesRefused, match="uses 1 of samples"):
        check_taught(_facts(0, 1), ANIMALS, "samples", 1)

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from graftery.compat import Trained, found, recombine, reestimated, train
from graftery.compat.recombination import Matrix, chance_of, check_group
from graftery.data import SampleSet
from graftery.errors import GrafteryError, Misfit, SamplesRefused
from graftery.spec.groups import above
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import CompatRecipe
from tests.support.compatible import DESIGN, A, B, images, samples, task

TESTS = {"a": samples(A, train=False), "b": samples(B, train=False)}


def _parts(trained: Trained) -> tuple[dict, dict]:
    members = trained.members.items()
    return {name: m.extractor for name, m in members}, {name: m.head for name, m in members}


def test_the_diagonal_is_each_network_itself(trained: Trained) -> None:
    found_ = recombine(*_parts(trained), TESTS)
    for at, name in enumerate(found_.names):
        assert float(found_.raw[at, at]) == trained.members[name].accuracy
    assert found_.normalised.diagonal().tolist() == pytest.approx([100, 100])


def test_normalised_is_100_at_the_networks_own_and_0_at_chance() -> None:
    raw = torch.tensor([[0.9, 0.5], [0.2, 0.8]], dtype=torch.float64)
    matrix = Matrix(("a", "b"), raw, torch.tensor([0.2, 0.3], dtype=torch.float64), (100, 100))
    torch.testing.assert_close(matrix.normalised, torch.tensor([[100.0, 40.0], [0.0, 100.0]], dtype=torch.float64))
    assert matrix.recombined == pytest.approx(20.0)


def test_nothing_is_normalised_by_a_network_that_is_not_above_chance() -> None:
    raw = torch.tensor([[0.9, 0.3], [0.2, 0.075]], dtype=torch.float64)
    matrix = Matrix(("a", "b"), raw, torch.tensor([0.2, 0.525], dtype=torch.float64), (40, 40))
    assert matrix.normalised[:, 0].tolist() == pytest.approx([100, 0])
    assert matrix.normalised[:, 1].isnan().all()
    assert math.isnan(matrix.recombined)


def test_statistics_of_the_other_extractor_are_a_step_of_their_own(trained: Trained) -> None:
    images_ = {"a": samples(A, train=True).x, "b": samples(B, train=True).x}
    plain, restated = recombine(*_parts(trained), TESTS), recombine(*_parts(trained), TESTS, statistics=images_)
    assert torch.equal(plain.raw.diagonal(), restated.raw.diagonal())
    assert not torch.equal(plain.raw, restated.raw)


def test_components_of_two_groups_are_refused_unless_forced(trained: Trained) -> None:
    x = images()[0][:4]
    other = train([task("b", B, most=96, test=False)], found(DESIGN, ("IIW",), x), CompatRecipe(epochs=1))
    pair = trained.members["a"].extractor, other.members["b"].head
    with pytest.raises(Misfit, match="of group") as refused:
        check_group(*pair)
    assert refused.value.code == "group_mismatch"
    check_group(*pair, force=True)


def test_components_of_another_preprocessing_are_refused(trained: Trained) -> None:
    extractor, head = trained.members["a"].extractor, trained.members["b"].head
    grey = [Preprocessing(mean=(mean,), std=(1.0,), colour_order="grey") for mean in (0.0, 0.5)]
    pair = [
        replace(file, manifest=file.manifest.model_copy(update={"preprocessing": each}))
        for file, each in zip((extractor, head), grey, strict=True)
    ]
    with pytest.raises(Misfit) as refused:
        check_group(pair[0], pair[1])
    assert refused.value.code == "preprocessing_mismatch"


def test_a_matrix_needs_the_images_of_every_head(trained: Trained) -> None:
    with pytest.raises(SamplesRefused, match="are of"):
        recombine(*_parts(trained), {"a": TESTS["a"]})
    unlabelled = {**TESTS, "b": SampleSet(TESTS["b"].x)}
    with pytest.raises(SamplesRefused) as refused:
        recombine(*_parts(trained), unlabelled)
    assert refused.value.code == "samples_missing"


_ONE = torch.rand(1, 1, 8, 8)


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        (SampleSet(torch.rand(14, 3, 8, 8), torch.arange(14) % 7), "shape_mismatch", "b's test images are"),
        (SampleSet(torch.rand(14, 1, 8, 8), torch.arange(14)), "samples_invalid", "have the label 13"),
        (SampleSet(torch.rand(14, 1, 8, 8), torch.arange(14) % 7 - 1), "samples_invalid", "class ids from 0"),
        (SampleSet(torch.rand(14, 1, 8, 8), torch.arange(14) % 7 + 0.7), "samples_invalid", "class ids from 0"),
        (SampleSet(torch.rand(14, 1, 8, 8), torch.zeros(14, 2).long()), "samples_invalid", "class ids from 0"),
    ],
)
def test_images_and_labels_that_are_not_the_heads_are_refused(
    trained: Trained, changed: SampleSet, code: str, says: str
) -> None:
    with pytest.raises(GrafteryError, match=says) as refused:
        recombine(*_parts(trained), {**TESTS, "b": changed})
    assert refused.value.code == code


def test_labels_of_whole_numbers_count_whatever_their_type(trained: Trained) -> None:
    b = TESTS["b"]
    assert b.y is not None
    found_ = recombine(*_parts(trained), {**TESTS, "b": SampleSet(b.x, b.y.double())})
    assert torch.equal(found_.raw, recombine(*_parts(trained), TESTS).raw)


@pytest.mark.parametrize(
    ("statistics", "code"),
    [
        ({"a": _ONE, "b": _ONE}, "samples_invalid"),
        ({"a": _ONE.expand(4, 1, 8, 8)}, "samples_invalid"),
        ({name: torch.rand(4, 3, 8, 8) for name in "ab"}, "shape_mismatch"),
    ],
)
def test_images_that_nothing_is_estimated_on_are_refused(trained: Trained, statistics: dict, code: str) -> None:
    with pytest.raises(GrafteryError) as refused:
        recombine(*_parts(trained), TESTS, statistics=statistics)
    assert refused.value.code == code
    with pytest.raises(SamplesRefused, match="two samples at least"):
        reestimated(_parts(trained)[1]["a"], torch.rand(1, 16, 8, 8))


def test_extractors_and_heads_that_were_swapped_are_refused(trained: Trained) -> None:
    extractors, heads = _parts(trained)
    with pytest.raises(Misfit) as refused:
        recombine(heads, extractors, TESTS)
    assert refused.value.code == "kind_mismatch"


def test_chance_is_the_most_frequent_class() -> None:
    assert chance_of(SampleSet(torch.zeros(4, 1), torch.tensor([0, 1, 1, 2]))) == 0.5
    assert not above(0.52, 0.5, 100)
    assert above(0.7, 0.5, 100)

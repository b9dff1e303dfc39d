from __future__ import annotations

import pytest
import torch

from graftery.cloning.local import NOISE_IMAGES, UNKNOWN, local_set
from graftery.data import SampleSet
from graftery.errors import SamplesRefused
from graftery.spec.recipes import CloneRecipe

KNOWN, WANTED = ("a", "b"), ("c",)
Y = torch.tensor([0] * 6 + [1] * 5 + [2] * 9)
X = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _refused(samples: SampleSet, recipe: CloneRecipe = CloneRecipe()) -> SamplesRefused:  # noqa: B008
    with pytest.raises(SamplesRefused) as caught:
        local_set(samples, KNOWN, WANTED, recipe)
    return caught.value


def test_the_local_set_knows_whose_images_are_whose() -> None:
    local = local_set(SampleSet(X, Y.float()), KNOWN, WANTED, CloneRecipe())
    assert local.wanted.tolist() == list(range(11, 20))
    assert local.original.tolist() == list(range(11))


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (None, "a label each"),
        (Y.float() + 0.5, "a label each"),
        (Y[:, None], "a label each"),
        (Y - 1, "-1 to 1"),
        (Y + 1, "1 to 3"),
    ],
)
def test_labels_that_are_none_of_the_classes_are_refused(y: torch.Tensor | None, said: str) -> None:
    refused = _refused(SampleSet(X, y))
    assert refused.code == "samples_invalid"
    assert said in refused.message


@pytest.mark.parametrize("few", [0, 1, 2])
def test_fewer_than_five_images_of_a_class_are_refused(few: int) -> None:
    kept = torch.cat([(label == Y).nonzero()[: 4 if label == few else 5, 0] for label in range(3)])
    refused = _refused(SampleSet(X[kept], Y[kept]))
    assert refused.code == "samples_missing"
    assert f"'{'abc'[few]}' has 4 images" in refused.message
    assert ("originals" in str(refused)) == (few < 2)


def test_noise_stands_for_the_targets_images() -> None:
    shown = Y == 2
    local = local_set(SampleSet(X[shown], Y[shown]), KNOWN, WANTED, CloneRecipe(originals="noise"))
    assert len(local.original) == NOISE_IMAGES
    assert (local.y[local.original] == UNKNOWN).all()
    assert local.x.isfinite().all()
    # What the target's own images are is not looked at, even where there are some.
    again = local_set(SampleSet(X, Y), KNOWN, WANTED, CloneRecipe(originals="noise"))
    assert torch.equal(again.x, local.x)
    assert _refused(SampleSet(X[:11], Y[:11]), CloneRecipe(originals="noise")).code == "samples_missing"


def test_vectors_have_noise_too() -> None:
    local = local_set(SampleSet(torch.randn(20, 7), Y), KNOWN, WANTED, CloneRecipe(originals="noise"))
    assert local.x.shape == (9 + NOISE_IMAGES, 7)


def test_views_keep_labels_and_noise() -> None:
    recipe = CloneRecipe(views=3, originals="noise")
    local = local_set(SampleSet(X, Y), KNOWN, WANTED, recipe)
    views = local.views(recipe, "test")
    assert len(views.x) == 3 * len(local.x)
    assert torch.equal(views.y, local.y.repeat(3))
    assert torch.equal(views.x[: len(local.x)], local.x)
    second = views.take(torch.arange(len(local.x), 2 * len(local.x)))
    assert not torch.equal(second.x[second.wanted], local.x[local.wanted])
    assert torch.equal(second.x[second.original], local.x[local.original])


@pytest.mark.parametrize("share", [0.01, 1 / 3, 0.99])
def test_a_split_has_some_of_each_class_on_both_sides(share: float) -> None:
    local = local_set(SampleSet(X, Y), KNOWN, WANTED, CloneRecipe())
    first, second = local.split(share, seed=3)
    assert len(first.y) + len(second.y) == 20
    assert set(first.y.tolist()) == set(second.y.tolist()) == {0, 1, 2}
    seen = torch.cat([first.x, second.x]).flatten(1).sum(1).sort().values
    torch.testing.assert_close(seen, X.flatten(1).sum(1).sort().values)

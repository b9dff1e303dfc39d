from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graftery.consolidate.cells import Cell, Shared, recipe_of
from graftery.consolidate.lessons import Lesson, Place, parted
from graftery.data import SampleSet
from graftery.errors import RecipeRefused
from graftery.spec.recipes import ConsolidateRecipe
from graftery.transplant import sketch
from graftery.transplant.nets import Nets
from tests.support import transplants as t
from tests.support.cells import SHORT, task, taught

CPU = torch.device("cpu")


def _lesson(
    cell: Cell, kind: Shared, images: Tensor | None = None, others: Tensor | None = None, **recipe: object
) -> Lesson:
    own = recipe_of(cell, kind, SHORT.model_copy(update=recipe))
    assert cell.teacher_task is not None
    nets = Nets(cell.category.net(), cell.task.net(), cell.teacher_task.net())
    place = Place(cell, kind, own, nets, torch.nn.Identity(), cell.category.net())
    return place.lesson(images, others, 0.25, CPU)


def test_a_task_learns_from_features_and_a_category_from_images() -> None:
    assert _lesson(taught(), "task", sources=("noise",)).batches(0).features.shape[1:] == (4, 4, 4)
    lesson = _lesson(taught(), "category", sources=("noise",))
    batch = lesson.batches(0)
    assert batch.features.shape[1:] == (1, 8, 8)
    assert torch.equal(lesson.target(batch.features), batch.teacher)


def test_images_that_are_held_out_are_not_learned_from() -> None:
    images = torch.arange(20.0).view(20, 1, 1, 1).expand(20, 1, 8, 8).contiguous()
    lesson = _lesson(taught(unlabelled=SampleSet(images)), "category", sources=("unlabelled",))
    (held,) = lesson.held_out
    only_looked_at = set(held[:, 0, 0, 0].tolist())
    assert 2 <= len(only_looked_at) <= 8, "about a quarter"
    learned = {value for step in range(60) for value in lesson.batches(step).features[:, 0, 0, 0].tolist()}
    assert learned == set(range(20)) - only_looked_at


def test_what_one_cell_holds_out_no_cell_learns_from() -> None:
    """Sets that overlap, or have an image twice, as a pool of several cells' images may."""
    images = torch.randn(60, 1, 8, 8)
    learned, looked_at = parted(images, 0.25)
    for other in (images[20:], images.flip(0), torch.cat([images[:30], images])):
        learned_too, looked_at_too = parted(other, 0.25)
        assert not _rows(learned) & _rows(looked_at_too) and not _rows(learned_too) & _rows(looked_at)
        assert _rows(learned_too) | _rows(looked_at_too) == _rows(other)


def _rows(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_where_none_would_be_left_all_are_learned_from() -> None:
    images = torch.randn(60, 1, 8, 8)
    _, looked_at = parted(images, 0.25)
    assert len(looked_at) > 1
    again, nothing = parted(looked_at, 0.25)
    assert torch.equal(again, looked_at) and len(nothing) == 0


def test_images_of_other_cells_are_one_more_source_of_inputs_without_labels() -> None:
    images = torch.arange(40.0).view(40, 1, 1, 1).expand(40, 1, 8, 8).contiguous()
    lesson = _lesson(taught(), "category", images[:20], images[20:], sources=("inversion", "noise"))
    others, own, noise = lesson.held_out
    assert torch.equal(own, parted(images[:20], 0.25)[1])
    assert set(others[:, 0, 0, 0].tolist()) < set(range(20, 40))
    assert len(noise) == 256
    assert lesson.recipe.sources == ("inversion", "noise")


def test_noise_is_looked_at_where_it_is_learned_from_or_nothing_else_is_there() -> None:
    unlabelled = SampleSet(torch.randn(60, 1, 8, 8))
    assert len(_lesson(taught(unlabelled=unlabelled), "task", sources=("unlabelled",)).held_out) == 1
    assert len(_lesson(taught(unlabelled=unlabelled), "task", sources=("unlabelled", "noise")).held_out) == 2
    few = SampleSet(torch.zeros(3, 1, 8, 8))
    (noise,) = _lesson(taught(unlabelled=few), "task", sources=("unlabelled",)).held_out
    assert len(noise) == 256


def test_each_cell_draws_its_own() -> None:
    one, other = (_lesson(taught(name), "task", sources=("noise",)) for name in ("one", "other"))
    assert not torch.equal(one.held_out[0], other.held_out[0])
    assert not torch.equal(one.batches(0).features, other.batches(0).features)


def test_a_cells_recipe_has_what_the_cell_has() -> None:
    recipe = ConsolidateRecipe(sources=("samples", "inversion", "noise"), labels=4)
    bare = recipe_of(taught(), "task", recipe)
    assert bare.sources == ("inversion", "noise")
    assert (bare.labels, "direct" in bare.objectives) == (0, False)
    samples = SampleSet(torch.randn(6, 1, 8, 8), torch.arange(6) % 3)
    full = recipe_of(taught(samples=samples), "task", recipe)
    assert full.sources == ("samples", "inversion", "noise")
    assert (full.labels, full.objectives["direct"]) == (4, 0.25)
    assert full.seed != bare.seed or full.seed == recipe_of(taught(), "category", recipe).seed
    assert task().content_digest == taught().task.content_digest


def test_a_sketch_of_features_of_another_size_than_the_images_give_is_none() -> None:
    net, x = t.image_category(), torch.randn(12, 1, 8, 8)
    sketched = t.category_file(net, x[:2], sketch=sketch(t.category_file(net, x[:2]), x))
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(16, 1))
    shared = t.task_file(head, torch.rand(2, 4, 4, 4))
    cells = [
        Cell("a", sketched, shared, teacher_task=shared, unlabelled=SampleSet(torch.randn(4, 1, size, size)))
        for size in (8, 6)
    ]
    found = ["moments" in recipe_of(cell, "task", ConsolidateRecipe()).sources for cell in cells]
    assert found == [True, False]


def test_a_cell_with_nothing_to_learn_by_is_refused() -> None:
    """Not taught by what nobody asked for."""
    with pytest.raises(RecipeRefused, match="nothing to learn by"):
        recipe_of(taught(), "task", ConsolidateRecipe(objectives={"direct": 1.0}))

from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.errors import RecipeRefused, SamplesRefused
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import crops, sketch, transplant
from graftery.transplant.crops import CROPS, crops_of, from_crops, mirrored, shape_of, whole_size
from tests.support.transplants import category_file, image_category, image_files, strided_files, task_file


def _numbered() -> torch.Tensor:
    """Maps of which every element is another number."""
    return torch.arange(5 * 2 * 4 * 6.0).view(5, 2, 4, 6)


def test_a_crop_is_a_part_of_one_map_half_as_high_and_wide() -> None:
    features = _numbered()
    found = crops_of(features, 50)
    assert found.shape == (50, 2, 2, 3)
    windows = features.unfold(2, 2, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 2 * 2 * 3)
    which = torch.cdist(found.float().flatten(1), windows).min(1)
    assert float(which.values.max()) == 0
    assert len(which.indices.unique()) > 20


def test_the_same_features_give_the_same_crops() -> None:
    assert torch.equal(crops_of(_numbered(), 9), crops_of(_numbered(), 9))


def test_crops_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "SKETCH_ELEMENTS", 40)
    assert len(crops_of(_numbered(), 50)) == 3


def test_a_sketch_has_crops_only_where_its_owner_asks() -> None:
    images = torch.randn(6, 1, 8, 8)
    assert CROPS not in sketch(image_files()[0], images)
    assert sketch(image_files()[0], images, crops=5)[CROPS].shape == (5, 4, 2, 2)


def test_features_that_are_no_maps_have_no_crops() -> None:
    with pytest.raises(SamplesRefused, match="maps"):
        crops_of(torch.randn(5, 8), 3)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (2, 3), (1, 2)])
def test_a_mirrored_crop_goes_on_without_a_seam(size: tuple[int, int]) -> None:
    crop = _numbered()[:, :, :2, :3]
    whole = mirrored(crop, size)
    assert whole.shape[2:] == size
    assert torch.equal(whole[:, :, :2, :3], crop[:, :, : size[0], : size[1]])
    for dim in (2, 3):
        steps = crop.diff(dim=dim).abs().max()
        assert float(whole.diff(dim=dim).abs().max() if whole.shape[dim] > 1 else 0) <= float(steps)


def test_nets_take_small_maps_unless_an_operator_names_a_size() -> None:
    small = torch.rand(2, 4, 2, 2)
    assert shape_of(nn.Conv2d(4, 1, 3, padding=1), small) == (2, 1, 2, 2)
    assert shape_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), small) is None


def test_crops_are_mirrored_where_student_and_teacher_answer_for_maps_of_different_sizes() -> None:
    tensors, like = {CROPS: torch.rand(5, 4, 2, 2).half()}, torch.rand(2, 4, 4, 4)
    same, other, fixed = (nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=4), nn.AdaptiveAvgPool2d(8))
    assert whole_size(tensors, like, (same, same)) is None
    assert whole_size(tensors, like, (same, fixed)) == (4, 4), "alike on whole maps only"
    assert whole_size(tensors, like, (same, other)) == (4, 4)
    assert whole_size(tensors, like, None) == (4, 4)


class _OneSize(nn.Module):
    """Maps of 2x2, and no others, to masks of 8x8."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).unflatten(1, (1, 8, 8))


def test_a_task_of_one_size_learns_from_crops_that_are_continued_to_whole_maps() -> None:
    """h resizes a crop to the whole of gS's input, while gT answers for the crop alone."""
    _, _, teacher = strided_files()
    net, images = image_category(), torch.randn(12, 1, 8, 8)
    f = category_file(net, images[:2], sketch=sketch(category_file(net, images[:2]), images, crops=6))
    shared = task_file(_OneSize(), torch.rand(2, 4, 2, 2), "segmentation")
    recipe = TransplantRecipe(steps=3, batch=8, sources=("crops",))
    done = transplant(f, shared, teacher_task=teacher, recipe=recipe)
    assert done.metrics["steps"] == 3


def test_crops_are_drawn_whole_or_as_they_are() -> None:
    tensors = {CROPS: crops_of(_numbered(), 8)}
    draw, whole = (from_crops(tensors, size, TransplantRecipe(), torch.device("cpu")) for size in (None, (4, 6)))
    small, large = draw(3, 5)[0], whole(3, 5)[0]
    assert small.shape == (5, 2, 2, 3)
    assert small.dtype == torch.float32
    assert torch.equal(large, mirrored(small, (4, 6)))
    assert not torch.equal(small, draw(4, 5)[0])


def test_a_sketch_without_crops_is_refused_as_a_source_of_them() -> None:
    with pytest.raises(RecipeRefused):
        from_crops({}, None, TransplantRecipe(), torch.device("cpu"))

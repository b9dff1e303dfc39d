from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftery.nn.layout import lie_as
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import transplant
from graftery.transplant.layout import fast, laid_out
from graftery.transplant.nets import Nets
from tests.support.transplants import image_category, image_files, image_task, task_file


class _Viewing(nn.Module):
    """Takes for granted that maps lie row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.head(x.view(x.shape[0], -1))
        return value


def _channels_last(net: nn.Module) -> bool:
    kernels = [value for value in net.state_dict().values() if value.ndim == 4]
    return all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_maps_lie_channels_last_and_keep_their_values() -> None:
    x = torch.randn(4, 1, 8, 8)
    nets = Nets(image_category(), image_task(), image_task(seed=1))
    plain = Nets(image_category(), image_task(), image_task(seed=1)).features(x)
    features = laid_out(nets, nn.Identity(), x)
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert all(_channels_last(net) for net in nets.all)
    assert torch.allclose(features, plain, atol=1e-5)
    assert _channels_last(lie_as(nn.Conv2d(4, 4, 3), features))


def test_a_net_that_views_its_maps_leaves_all_as_it_was() -> None:
    x = torch.randn(4, 1, 8, 8)
    nets = Nets(image_category(), _Viewing(), image_task())
    features = laid_out(nets, nn.Identity(), x)
    assert features.is_contiguous()
    assert nets.teacher is not None
    assert not _channels_last(nets.teacher)
    assert nets.task(features).shape == (4, 1)


def test_vectors_have_no_layout() -> None:
    nets = Nets(nn.Linear(3, 4), nn.Linear(4, 1))
    assert laid_out(nets, nn.Identity(), torch.randn(2, 3)).shape == (2, 4)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_recipe_says_the_precision(precision: str, dtype: torch.dtype) -> None:
    recipe = TransplantRecipe.model_validate({"precision": precision})
    with fast(recipe, torch.device("cpu")):
        assert image_task()(torch.rand(2, 4, 4, 4)).dtype == dtype


@pytest.mark.parametrize("objectives", [{"distillation": 4.0}, {"distillation": 4.0, "back_distillation": 1.0}])
def test_in_bfloat16_an_adapter_learns_as_well_and_is_kept_in_float32(objectives: dict[str, float]) -> None:
    category, task, teacher = image_files(outputs=3)
    kappa = {}
    for precision in ("float32", "bfloat16"):
        fields = {"steps": 200, "sources": ["noise"], "precision": precision, "objectives": objectives}
        recipe = TransplantRecipe.model_validate({**fields, "learning_rate": 1e-2})
        made = transplant(category, task, teacher_task=teacher, recipe=recipe)
        assert {value.dtype for value in made.adapter.weights.values()} == {torch.float32}
        assert made.recipe.precision == precision
        kappa[precision] = made.metrics["agreement"]["kappa"]
    assert kappa["float32"] > 0.3
    assert abs(kappa["float32"] - kappa["bfloat16"]) < 0.1


def test_an_adapter_beside_a_net_that_views_its_maps_is_learned_too() -> None:
    category, _, teacher = image_files()
    viewing = task_file(_Viewing(), torch.rand(2, 4, 4, 4))
    made = transplant(category, viewing, teacher_task=teacher, recipe=TransplantRecipe(steps=3, sources=("noise",)))
    assert all(value.is_contiguous() for value in made.adapter.weights.values())

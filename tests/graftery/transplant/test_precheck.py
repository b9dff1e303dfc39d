from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from fractions import Fraction

import pytest
import torch
from torch import nn

from graftery.errors import Misfit
from graftery.module import ModuleFile
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import PRECHECK_NEIGHBOURS, TransplantRecipe
from graftery.transplant import Neighbour, precheck, transplant
from graftery.transplant.precheck import NO_NEIGHBOUR, _batches, _images, _resize
from graftery.transplant.sources import Noise
from tests.support import transplants as t


def _category(seed: int = 1, channels: int = 4) -> ModuleFile:
    return t.category_file(t.image_category(channels, seed), torch.randn(2, 1, 8, 8))


def test_the_plan_is_the_adapter_that_a_transplant_learns() -> None:
    f, _, teacher = t.image_files()
    wide = t.task_file(t.image_task(channels=6, seed=1), torch.rand(2, 6, 4, 4))
    recipe = TransplantRecipe.model_validate({"steps": 0, "sources": ["noise"], "adapter": {"layers": 2}})
    found = precheck(f, wide, teacher_task=teacher, recipe=recipe)
    assert (found.features, found.wanted, found.identity) == ((4, 4, 4), (6, 4, 4), False)
    assert found.layers == ("1x1 convolution 4 to 6", "3x3 convolution 6 to 6", "3x3 convolution 6 to 6")
    made = transplant(f, wide, teacher_task=teacher, recipe=recipe)
    assert found.parameters == sum(weight.numel() for weight in made.adapter.weights.values())


def test_of_depths_to_choose_from_the_deepest_is_told() -> None:
    f, task, _ = t.image_files()
    recipe = TransplantRecipe.model_validate({"adapter": {"choose": [1, 3, 2]}})
    assert precheck(f, task, recipe=recipe).layers == ("3x3 convolution 4 to 4",) * 3


def test_a_resize_between_kinds_of_features_is_told() -> None:
    tokens = t.category_file(t.token_category(), torch.randn(2, 17, 3))
    task = t.task_file(t.image_task(), torch.rand(2, 4, 4, 4))
    small = t.task_file(nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 2)).eval(), torch.rand(2, 4, 6, 6))
    assert precheck(tokens, small).layers[-1] == "resize to 6x6"
    assert not any("resize" in words for words in precheck(tokens, task).layers)


def test_a_resize_says_what_each_side_becomes() -> None:
    assert _resize((6, 4)) == "resize to 6x4"
    assert _resize((6, Fraction(3, 2))) == "resize height to 6 and width by 3/2"


def test_dense_outputs_have_deeper_adapters() -> None:
    f = t.image_files()[0]
    task = t.task_file(t.dense_task(), torch.rand(2, 4, 4, 4), "segmentation")
    assert len(precheck(f, task).layers) == 3


def test_without_neighbours_nothing_is_invented() -> None:
    f, task, _ = t.image_files()
    found = precheck(f, task)
    assert found.identity
    assert (found.residual, found.cka, found.images, found.neighbours) == (None, None, 0, ())
    assert found.reason == NO_NEIGHBOUR


def test_the_nearest_neighbour_counts() -> None:
    f, task, _ = t.image_files()
    found = precheck(f, task, neighbours=[Neighbour("other", _category()), Neighbour("itself", f)])
    other, itself = found.neighbours
    assert (other.name, itself.name) == ("other", "itself")
    assert itself.residual == pytest.approx(0, abs=1e-5)
    assert itself.cka == pytest.approx(1)
    assert other.residual is not None and other.residual > 0.05
    assert other.cka is not None and other.cka < 0.99
    assert (found.residual, found.cka, found.reason) == (itself.residual, itself.cka, None)
    json.dumps(asdict(found), allow_nan=False)


def test_a_neighbour_is_seen_through_its_adapter() -> None:
    """Reversed channels are a linear map of the channels; a ReLU of other mixtures is none."""
    f, task, teacher = t.image_files()
    recipe = TransplantRecipe.model_validate({"steps": 0, "sources": ["noise"], "adapter": {"noise": 3, "kernel": 1}})
    adapter = transplant(f, task, teacher_task=teacher, recipe=recipe).adapter
    (through,) = precheck(f, task, neighbours=[Neighbour("grafted", f, adapter)]).neighbours
    assert through.residual is not None and through.residual > 1e-3


def test_the_seed_decides() -> None:
    f, task, _ = t.image_files()
    near = [Neighbour("other", _category())]
    one, again, other = (precheck(f, task, neighbours=near, recipe=TransplantRecipe(seed=s)) for s in (0, 0, 1))
    assert one == again
    assert one.residual != other.residual


def test_neighbours_that_cannot_be_compared_say_why() -> None:
    f, task, _ = t.image_files()
    shaded = replace(
        f, manifest=f.manifest.model_copy(update={"preprocessing": Preprocessing(mean=(0.1,), std=(1.0,))})
    )
    vectors = t.vector_files()[0]
    found = precheck(f, task, neighbours=[Neighbour("shaded", shaded), Neighbour("vectors", vectors)])
    assert [each.residual for each in found.neighbours] == [None, None]
    assert found.neighbours[0].reason == "its preprocessing is another"
    assert found.neighbours[1].reason == "its input is [3], not [1, 8, 8]"
    assert found.reason == "its preprocessing is another"


def test_features_of_another_kind_than_the_tasks_are_planned_but_not_compared() -> None:
    f, task, _ = t.image_files()
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5)).eval()
    ours = t.category_file(flat, torch.randn(2, 1, 8, 8))
    found = precheck(ours, task, neighbours=[Neighbour("maps", f)])
    assert not found.identity
    assert found.parameters > 0
    assert "no linear map of channels" in str(found.reason)


def test_no_more_neighbours_than_is_said() -> None:
    f, task, _ = t.image_files()
    found = precheck(f, task, neighbours=[Neighbour(str(i), f) for i in range(PRECHECK_NEIGHBOURS + 2)])
    assert len(found.neighbours) == PRECHECK_NEIGHBOURS


def test_modules_that_do_not_fit_are_refused() -> None:
    f, task, _ = t.image_files()
    with pytest.raises(Misfit):
        precheck(f, task, teacher_task=t.vector_files()[2])


def test_the_map_is_tested_on_images_that_it_has_not_seen() -> None:
    batches = [*_batches(Noise((1, 4, 4), None, TransplantRecipe()), 64)]
    assert [test for test, _ in batches] == [False, True, False, True]
    for index, (_, x) in enumerate(batches):
        assert not any(torch.equal(x, other) for _, other in batches[:index])


def test_images_are_as_many_as_the_channels_want_and_seconds_allow() -> None:
    assert _images((3, 32, 32), (48, 8, 8)) == 32
    assert _images((64,), (256,)) == 1024
    assert _images((3, 224, 224), (512,)) == 64
    assert _images((3, 224, 224), (64, 56, 56)) == 32


def test_a_net_for_cifar_takes_a_second_or_two() -> None:
    layers = [torch.nn.Conv2d(3, 48, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(4)]
    x = torch.randn(2, 3, 32, 32)
    f, other = (t.category_file(torch.nn.Sequential(*layers).eval(), x) for _ in range(2))
    task = t.task_file(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 64, 1)), torch.rand(2, 48, 8, 8))
    began = time.process_time()
    precheck(f, task, neighbours=[Neighbour("other", other)])
    assert time.process_time() - began < 5

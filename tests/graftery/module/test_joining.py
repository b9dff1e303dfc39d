from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.errors import Misfit
from graftery.module import ModuleFile, cut, trace, verify
from graftery.module.joining import join
from graftery.spec.manifest import OutputMeaning
from tests.support import families, files


def _parts() -> dict[str, ModuleFile]:
    category, task = files.parts()
    return {"category": category, "task": task}


def test_what_was_cut_is_whole_again_to_the_bit(tmp_path: object) -> None:
    made, whole = join(_parts()), files.teacher()
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(made.net()(x), whole.net()(x))
    path = f"{tmp_path}/whole"
    made.save(path)
    facts = verify(path)
    assert facts.parameters == sum(weight.numel() for weight in whole.weights.values())
    assert {"category.features", "task.heads.is"} <= set(facts.layers)
    assert ModuleFile.load(path).manifest.kind == "teacher"


def test_layers_that_are_called_the_same_stay_apart() -> None:
    category = trace(nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 4), kind="category")
    meaning = {"is": OutputMeaning(semantics="regression")}
    task = trace(nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3), kind="task", outputs=meaning)
    made = join({"category": category, "adapter": category_of_three(), "task": task})
    x = torch.randn(4, 4)
    expected = task.net()(category_of_three().net()(category.net()(x)))
    assert torch.equal(made.net()(x), expected)
    lower, _ = cut(made, "adapter.0")
    assert set(lower.weights) == {"category.0.weight", "category.0.bias", "adapter.0.weight", "adapter.0.bias"}


def category_of_three() -> ModuleFile:
    torch.manual_seed(1)
    return trace(nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3), kind="adapter")


def test_a_transformer_whose_class_token_knows_the_batch_is_joined() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(families.category_module("vit"), families.task_module("vit", outputs=3)).eval()
    whole = trace(net, torch.randn(2, 1, 8, 8), outputs={"is": OutputMeaning(semantics="classification")})
    category, tasks = cut(whole, "0")
    made = join({"category": category, "task": tasks["is"]})
    for count in (1, 4):
        x = torch.randn(count, 1, 8, 8)
        assert torch.equal(made.net()(x), whole.net()(x))


def test_what_does_not_follow_is_refused() -> None:
    category, task = files.parts()
    other = files.parts(channels=6)[1]
    with pytest.raises(Misfit, match="task reads") as caught:
        join({"category": category, "task": other})
    assert caught.value.code == "shape_mismatch"
    with pytest.raises(Misfit, match="it must have one") as caught:
        join({"teacher": files.teacher(("a", "b")), "task": task})
    assert caught.value.code == "kind_mismatch"


def test_where_a_later_part_has_one_size_the_whole_has() -> None:
    free = trace(nn.Conv2d(1, 4, 3, padding=1), torch.randn(2, 1, 8, 8), kind="category")
    meaning = {"is": OutputMeaning(semantics="regression")}
    fixed = trace(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), torch.randn(2, 4, 8, 8), kind="task", outputs=meaning)
    assert free.manifest.input.shape == ("N", 1, "H", "W")
    assert join({"category": free, "task": fixed}).manifest.input.shape == ("N", 1, 8, 8)
    category, task = files.free_size_parts()
    assert join({"category": category, "task": task}).graph.input.shape == ("N", 1, "H", "W")

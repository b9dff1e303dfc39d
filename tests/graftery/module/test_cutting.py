from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftery.errors import CutRefused
from graftery.module import ModuleFile, cut, trace
from graftery.spec.manifest import OutputMeaning, Preprocessing
from tests.support.corpus import made


@pytest.fixture(scope="module")
def teacher() -> ModuleFile:
    meanings = {name: OutputMeaning(semantics="classification", class_names=("no", name)) for name in ("cat", "dog")}
    return trace(
        made("two"),
        torch.zeros(2, 3, 8, 8),
        outputs=meanings,
        preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.2,) * 3),
        licence="MIT",
        sketch={"mean": torch.zeros(8)},
    )


def test_parts_know_where_they_come_from(teacher: ModuleFile) -> None:
    category, tasks = cut(teacher, "trunk")
    for part in (category, *tasks.values()):
        assert part.manifest.cut == "trunk"
        assert [(parent.role, parent.digest) for parent in part.manifest.parents] == [
            ("teacher", teacher.content_digest)
        ]
        assert part.manifest.licence == "MIT"
        assert part.manifest.preprocessing == teacher.manifest.preprocessing
    assert category.manifest.kind == "category"
    assert {name: task.manifest.kind for name, task in tasks.items()} == {"cat": "task", "dog": "task"}
    assert tasks["dog"].manifest.outputs["dog"].class_names == ("no", "dog")


def test_sketch_goes_with_the_category_and_every_part_has_its_probe(teacher: ModuleFile) -> None:
    category, tasks = cut(teacher, "trunk")
    assert category.extras.keys() == {"sketch.mean", "probe.x", "probe.y"}
    for name, task in tasks.items():
        assert task.extras.keys() == {"probe.x", "probe.y"}
        torch.testing.assert_close(task.extras["probe.y"], teacher.extras[f"probe.y.{name}"])
        assert torch.equal(task.extras["probe.x"], category.extras["probe.y"])


def test_parts_hold_their_own_weights_alone(teacher: ModuleFile) -> None:
    category, tasks = cut(teacher, "trunk")
    assert all(name.startswith("trunk.") for name in category.weights)
    assert tasks["cat"].weights.keys() == {"is_cat.weight", "is_cat.bias"}


def test_relu_in_place_after_the_cut_leaves_the_features_alone(teacher: ModuleFile) -> None:
    category, tasks = cut(teacher, "trunk")
    features = category.net()(torch.randn(4, 3, 8, 8))
    before = features.clone()
    tasks["cat"].net()(features)
    assert bool((features < 0).any())
    assert torch.equal(features, before)


def test_unknown_layer_names_the_nearest(teacher: ModuleFile) -> None:
    with pytest.raises(CutRefused) as caught:
        cut(teacher, "trunk.2")
    assert caught.value.code == "cut_not_found"
    assert "trunk.1" in caught.value.details["near"]
    assert "trunk.1" in str(caught.value)


def test_cut_at_the_output_leaves_nothing_above(teacher: ModuleFile) -> None:
    with pytest.raises(CutRefused, match="does not use the layer 'is_cat'"):
        cut(teacher, "is_cat")


class Resized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.high(self.low(x)), size=x.shape[-2:])


def test_a_net_that_resizes_to_its_input_cannot_be_cut() -> None:
    with pytest.raises(CutRefused, match="also uses the size of the net's input") as caught:
        cut(trace(Resized(), torch.zeros(2, 3, 8, 8)), "low")
    assert caught.value.code == "cut_not_separating"


class Folded(nn.Module):
    """Its middle has more rows than the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.high(self.low(x.reshape(-1, 2))).reshape(x.shape[0], -1)


class Dense(nn.Module):
    """Its end uses the outputs of twenty layers, and of one behind them all."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(20))
        self.last = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        each = [layer(x) for layer in self.layers]
        below = torch.stack(each).sum(0)
        return torch.stack([*each, self.last(below)]).sum(0)


def test_a_refused_cut_names_a_few_of_what_else_is_used() -> None:
    with pytest.raises(CutRefused, match=r"also uses the output of the layer 'layers\.0', .* and 12 more") as caught:
        cut(trace(Dense(), torch.zeros(2, 3)), "last")
    assert caught.value.message.count("layers.") == 8


def test_features_have_the_batch_first() -> None:
    with pytest.raises(CutRefused, match="dimension 0 is not the batch"):
        cut(trace(Folded(), torch.zeros(2, 6)), "low")


class Constant(nn.Module):
    """Above the cut it uses something that is made from weights alone: that is no second way into it."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.scale = nn.Linear(4, 4), nn.Linear(4, 2), nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale.exp()
        return self.high(self.low(x * scale) * scale)


def test_what_depends_on_weights_alone_is_made_in_both_parts() -> None:
    file = trace(Constant(), torch.zeros(2, 4))
    category, tasks = cut(file, "low")
    x = torch.randn(3, 4)
    assert torch.equal(tasks["output"].net()(category.net()(x)), file.net()(x))
    assert "scale" in category.weights
    assert "scale" in tasks["output"].weights

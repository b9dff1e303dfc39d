"""Nothing learned before changes by one bit; and the check that says so fails under trainers that break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from graftery.data.streams import generator
from graftery.errors import TrainingFailed
from graftery.learning.loop import Loop
from graftery.nn.adapters import make_adapter
from graftery.spec.recipes import AdapterRecipe, TransplantRecipe
from graftery.transplant import training
from graftery.transplant.nets import Composed, Nets
from graftery.transplant.sources import Batch
from tests.support.transplants import image_category, image_task

RECIPE = TransplantRecipe(objectives={"distillation": 4.0, "back_distillation": 1.0}, steps=4)


class World:
    """A generic net that knows three categories, and a teacher of a fourth."""

    def __init__(self) -> None:
        self.task = image_task(seed=1)
        # One category with an adapter of its own, as an earlier transplant leaves it.
        adapter = make_adapter((4, 4, 4), (4, 4, 4), AdapterRecipe(), generator(9, "adapter")).requires_grad_(False)
        self.earlier = [Composed(image_category(seed=s), adapter if s == 3 else None, self.task) for s in (1, 2, 3)]
        self.nets = Nets(image_category(), self.task, image_task())
        self.probe = torch.randn(16, 1, 8, 8, generator=generator(0, "probe"))

    def outputs(self) -> list[bytes]:
        """The bits of every earlier network's outputs on the reference path."""
        with torch.no_grad():
            found = [net.eval()(self.probe) for net in self.earlier]
        return [output.numpy().tobytes() for output in found]

    def batch(self, step: int) -> Batch:
        return Batch(self.nets.features(torch.randn(8, 1, 8, 8, generator=generator(0, "batch", step))))

    def transplant(self) -> None:
        h = make_adapter((4, 4, 4), (4, 4, 4), AdapterRecipe(final_relu=True), generator(0, "adapter"))
        training.train(self.nets, h, self.batch, recipe=RECIPE, semantics="classification", loop=Loop("train"))
        assert not torch.equal(h.layers[0].weight, _untrained().layers[0].weight)  # type: ignore[arg-type, index]


def _untrained() -> nn.Module:
    return make_adapter((4, 4, 4), (4, 4, 4), AdapterRecipe(final_relu=True), generator(0, "adapter"))


def unfreeze(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer that learns gS too."""
    honest = training.optimise
    world.task.requires_grad_(True)

    def optimise(parameters: dict[str, Tensor], *args: object, **options: object) -> None:
        both = {**parameters, **{f"task.{name}": value for name, value in world.task.named_parameters()}}
        honest(both, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "optimise", optimise)


def train_batch_norm(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer that leaves batch norm in training mode."""
    world.task.train()


Break = Callable[[World, pytest.MonkeyPatch], None]


def test_earlier_networks_give_the_same_bits_after_a_transplant() -> None:
    world = World()
    before = world.outputs()
    world.transplant()
    assert world.outputs() == before


@pytest.mark.parametrize("broken", [unfreeze, train_batch_norm])
def test_the_same_check_fails_under_a_broken_trainer(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    before = world.outputs()
    broken(world, monkeypatch)
    monkeypatch.setattr(training, "unchanged", _look_away)
    world.transplant()
    assert world.outputs() != before


@pytest.mark.parametrize("broken", [unfreeze, train_batch_norm])
def test_a_broken_trainer_ends_as_a_failure(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    broken(world, monkeypatch)
    with pytest.raises(TrainingFailed) as caught:
        world.transplant()
    assert caught.value.code == "frozen_changed"


@contextmanager
def _look_away(*nets: nn.Module) -> Iterator[None]:
    yield

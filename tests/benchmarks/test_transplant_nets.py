"""The nets of the benchmark of transplants: how they learn, and when they are trained again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.transplant.worlds import WORLDS, cifar10
from benchmarks.transplant.worlds.base import Trained, World
from benchmarks.transplant.worlds.cifar10 import Cifar10
from benchmarks.transplant.worlds.digits import Digits
from benchmarks.transplant.zoo import Nets, Zoo
from graftery.module import trace
from graftery.spec.manifest import OutputMeaning

NETS = Nets("3", ("0", "1"), ("is",), "middle", 0)


class Quick(Digits):
    """Nets that learn nothing, each with other weights."""

    def teacher(self, category: str, seed: int, tasks: Sequence[str]) -> Trained:
        net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        return Trained(trace(net, torch.zeros(2, 2), outputs={"is": OutputMeaning(semantics="classification")}), 1.0)

    def generic_net(self, categories: Sequence[str], seed: int, depth: str, tasks: Sequence[str]) -> Trained:
        return self.teacher(categories[0], seed, tasks)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def zoo(tmp_path: Path, said: list[str]) -> Zoo:
    return Zoo(Quick(None, tmp_path), tmp_path, said.append)


def test_a_net_that_is_there_is_not_trained_again(zoo: Zoo, said: list[str]) -> None:
    assert not zoo.has(NETS)
    first = [net.file.content_digest for net in zoo.pair(NETS)]
    assert zoo.has(NETS)
    assert [net.file.content_digest for net in zoo.pair(NETS)] == first
    assert said == ["training teacher-3-is-0", "training generic-0+1-is-middle-0"]


def test_a_net_that_learned_by_something_else_is_trained_again(
    zoo: Zoo, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [net.file.content_digest for net in zoo.pair(NETS)]
    monkeypatch.setattr("examples.digits.STEPS", 7)
    assert not zoo.has(NETS)
    assert all(net.file.content_digest != other for net, other in zip(zoo.pair(NETS), first, strict=True))
    assert len(said) == 4


def test_a_net_that_does_not_say_what_it_learned_by_is_trained_again(zoo: Zoo, tmp_path: Path) -> None:
    zoo.pair(NETS)
    (tmp_path / "digits" / "teacher-3-is-0.json").write_text('{"seconds": 1.0, "curve": [], "threads": 1}')
    assert not zoo.has(NETS)


def _learned(world: World, categories: int = 1) -> dict[str, Any]:
    return world.learned_by(categories, [world.tasks[0].output])


@pytest.mark.parametrize("name", WORLDS)
def test_what_a_net_learns_by_is_its_schedule_its_batch_its_precision_and_its_layers(name: str, tmp_path: Path) -> None:
    world = WORLDS[name](None, tmp_path)
    state = torch.random.get_rng_state()
    known = _learned(world)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert known.keys() >= {"schedule", "batch", "net"} and known["precision"] == "float32"
    if world.schedule is not None:
        assert _learned(world, 4)["batch"] != known["batch"]
        world.schedule = replace(world.schedule, steps=1)
        assert _learned(world) != known
        assert world.learned_by(1, [task.output for task in world.tasks])["net"] != known["net"]


def test_nets_learn_in_float32_whatever_the_processor_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(cifar10, "EVALUATED", {"train": 4, "validation": 4, "test": 4})
    classes = torch.arange(40) % 10
    monkeypatch.setattr(Cifar10, "images_of", lambda *_: (torch.zeros(40, 3, 32, 32, dtype=torch.uint8), classes))
    monkeypatch.setattr(cifar10, "_file", lambda *_: None)
    seen: set[torch.dtype] = set()
    convolve = torch.nn.Conv2d.forward

    def watched(layer: torch.nn.Conv2d, x: Tensor) -> Tensor:
        made = convolve(layer, x)
        seen.add(made.dtype)
        return made

    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched)
    world = Cifar10(None, tmp_path)
    world.schedule = replace(world.schedule, steps=2, batch=4, checks=1)
    world.teacher("cat", 0, ["is"])
    assert seen == {torch.float32}

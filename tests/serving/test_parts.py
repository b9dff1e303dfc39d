"""Modules in memory: checked as they are read, freed at once, and swapped between two runs."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence

import pytest
import torch

from graftery.errors import Unavailable
from serving import parts
from serving.parts import Eager, Part
from tests.serving.test_joint import CPU, _loaded
from tests.support.world import NETWORK, World


def test_a_module_is_loaded_without_gradients_and_freed_without_a_collection(world: World) -> None:
    model, _ = _loaded(world, NETWORK)
    gc.disable()
    try:
        part = parts.load(world.store, model.category, CPU)
        assert isinstance(part._form, Eager)
        buffers = list(part._form._net.buffers())
        weights = [weakref.ref(buffer) for buffer in buffers]
        assert weights and not any(tensor.requires_grad for tensor in buffers)
        assert part.size_bytes == sum(tensor.nbytes for tensor in buffers)
        del buffers
        part.free()
        assert [ref() for ref in weights] == [None] * len(weights)
    finally:
        gc.enable()


def test_a_module_knows_sizes_that_it_takes(world: World) -> None:
    model, _ = _loaded(world, NETWORK)
    part = parts.load(world.store, model.category, CPU)
    assert part.sizes is not None
    assert part(torch.zeros(3, *part.sizes))[part.outputs[0]].shape[0] == 3


def test_missing_bytes_are_not_ready_with_the_cause(world: World) -> None:
    with pytest.raises(Unavailable, match="cannot be loaded: The store has no bytes") as caught:
        parts.load(world.store, "0" * 64, CPU)
    assert caught.value.code == "not_ready"


def test_damaged_bytes_are_not_ready_with_the_cause(world: World) -> None:
    model, _ = _loaded(world, NETWORK)
    path = world.store.local_path(model.category)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # a weight: the file still reads
    path.write_bytes(data)
    with pytest.raises(Unavailable, match="they are damaged"):
        parts.load(world.store, model.category, CPU)


def test_bytes_that_are_no_module_file_are_not_ready(world: World) -> None:
    with pytest.raises(Unavailable, match="cannot be loaded"):
        parts.load(world.store, world.store.put_bytes(b"abc" * 100).digest, CPU)


def test_auto_is_a_device_that_there_is() -> None:
    assert parts.device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert parts.device_of("cpu") == CPU


class Doubling:
    name = "doubling"
    size_bytes = 3

    def __init__(self) -> None:
        self.freed = 0
        self.entered, self.release = threading.Event(), threading.Event()
        self.release.set()

    def __call__(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        self.entered.set()
        assert self.release.wait(10) and not self.freed
        return (2 * x,)

    def free(self) -> None:
        self.freed += 1


def test_a_swap_takes_effect_between_two_calls_and_frees_what_was() -> None:
    first, second = Doubling(), Doubling()
    part = Part("d", ["y"], first)
    first.release.clear()
    call = threading.Thread(target=part, args=(torch.ones(1),))
    call.start()
    assert first.entered.wait(10)
    swap = threading.Thread(target=part.swap, args=(second,))
    swap.start()
    swap.join(0.05)
    assert swap.is_alive() and not first.freed
    first.release.set()
    for thread in (call, swap):
        thread.join(10)
    assert first.freed == 1 and not second.freed
    assert part(torch.ones(1))["y"].item() == 2 and second.entered.is_set()


def test_a_form_that_comes_too_late_is_freed() -> None:
    first, second = Doubling(), Doubling()
    part = Part("d", ["y"], first)
    part.free()
    assert not part.swap(second) and (first.freed, second.freed) == (1, 1)
    assert part.form == "dropped" and part.size_bytes == 0
    with pytest.raises(Unavailable, match="was dropped"):
        part(torch.ones(1))

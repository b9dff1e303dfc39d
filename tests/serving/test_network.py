"""Loading from the store and running: equal to the local composition, and honest about what is wrong."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from graftery.errors import InferenceRefused, Unavailable
from serving import models, network
from serving.models import Branch, Model
from serving.protocol import Declared
from tests.support.world import NETWORK, World, images

CPU = torch.device("cpu")


def _loaded(world: World, name: str) -> tuple[Model, dict[str, nn.Module]]:
    with world.database.read() as session:
        model = models.find(session, name)
    return model, {digest: network.load(world.store, digest, CPU)[0] for digest in model.parts}


@pytest.mark.parametrize("ref", [f"{NETWORK}:1", f"{NETWORK}:2", "eight-teacher:1"])
@pytest.mark.parametrize("batch", [1, 7])
def test_answers_are_those_of_the_local_composition_to_the_bit(world: World, ref: str, batch: int) -> None:
    model, nets = _loaded(world, ref)
    x = images(batch)
    found = network.run(model, nets, x, ["is"], CPU)
    np.testing.assert_array_equal(found.outputs["is"], world.answer(ref, x))
    assert found.input_s >= 0 and found.infer_s > 0 and found.output_s >= 0


def test_only_the_wanted_branches_run(world: World) -> None:
    model, nets = _loaded(world, "eight")
    other = Branch(None, "not loaded", model.branches[0].outputs)
    assert "not loaded" not in nets
    wide = Model(
        model.name, 1, model.category, model.input, None, (*model.branches, _renamed(other, "other")), model.parts
    )
    assert list(network.run(wide, nets, images(2), [NETWORK], CPU).outputs) == [NETWORK]
    with pytest.raises(KeyError):
        network.run(wide, nets, images(2), ["other"], CPU)


def _renamed(branch: Branch, name: str) -> Branch:
    output = branch.outputs[0]
    declared = Declared(name, output.declared.datatype, output.declared.shape)
    return Branch(branch.adapter, branch.task, (models.Output(declared, output.inner, output.spec),))


def test_a_module_is_loaded_without_gradients_and_freed_without_a_collection(world: World) -> None:
    model, _ = _loaded(world, NETWORK)
    gc.disable()
    try:
        net, size = network.load(world.store, model.category, CPU)
        weights = [weakref.ref(buffer) for buffer in net.buffers()]
        assert weights and not any(tensor.requires_grad for tensor in net.buffers())
        assert size == sum(tensor.nbytes for tensor in net.buffers())
        network.unload(net)
        assert [ref() for ref in weights] == [None] * len(weights)
    finally:
        gc.enable()


def test_missing_bytes_are_not_ready_with_the_cause(world: World) -> None:
    with pytest.raises(Unavailable, match="cannot be loaded: The store has no bytes") as caught:
        network.load(world.store, "0" * 64, CPU)
    assert caught.value.code == "not_ready"


def test_damaged_bytes_are_not_ready_with_the_cause(world: World) -> None:
    model, _ = _loaded(world, NETWORK)
    path = world.store.local_path(model.category)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # a weight: the file still reads
    path.write_bytes(data)
    with pytest.raises(Unavailable, match="they are damaged"):
        network.load(world.store, model.category, CPU)


def test_bytes_that_are_no_module_file_are_not_ready(world: World) -> None:
    with pytest.raises(Unavailable, match="cannot be loaded"):
        network.load(world.store, world.store.put_bytes(b"abc" * 100).digest, CPU)


class Picky(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("the pooling window is too large\nand a stack trace")


class Hungry(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes")


def _one(net: nn.Module, shape: tuple[int, ...], datatype: str = "FP32") -> tuple[Model, dict[str, nn.Module]]:
    spec = models.OutputSpec(dtype="float32", shape=("N", 1))
    output = models.Output(Declared("y", datatype, (-1, 1)), "y", spec)
    branch = Branch(None, "t", (output,))
    return Model("m", 1, "c", Declared("input", datatype, shape), None, (branch,), {}), {"c": nn.Identity(), "t": net}


def test_free_sizes_that_the_net_cannot_run_on_are_the_callers(world: World) -> None:
    model, nets = _one(Picky(), (-1, -1))
    with pytest.raises(InferenceRefused, match=r"cannot run on shape \[1, 2\]: the pooling window is too large$"):
        network.run(model, nets, np.zeros((1, 2), np.float32), ["y"], CPU)


class Short(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, torch.tensor([6])]


def test_a_position_outside_of_a_free_size_is_the_callers(world: World) -> None:
    model, nets = _one(Short(), (-1, -1))
    with pytest.raises(InferenceRefused, match=r"cannot run on shape \[1, 2\]: index 6 is out of bounds"):
        network.run(model, nets, np.zeros((1, 2), np.float32), ["y"], CPU)


def test_an_error_of_a_net_with_fixed_sizes_is_ours(world: World) -> None:
    model, nets = _one(Picky(), (-1, 2))
    with pytest.raises(RuntimeError, match="the pooling window"):
        network.run(model, nets, np.zeros((1, 2), np.float32), ["y"], CPU)


def test_too_little_memory_is_for_now(world: World) -> None:
    model, nets = _one(Hungry(), (-1, 2))
    with pytest.raises(Unavailable, match="too little memory"):
        network.run(model, nets, np.zeros((1, 2), np.float32), ["y"], CPU)


def test_bf16_goes_through_by_its_bits() -> None:
    model, nets = _one(nn.Identity(), (-1, 1), "BF16")
    bits = np.array([[0x3F80], [0xC000]], np.uint16)  # 1.0, -2.0
    np.testing.assert_array_equal(network.run(model, nets, bits, ["y"], CPU).outputs["y"], bits)
    seen = []
    nets["c"].register_forward_hook(lambda _net, _args, value: seen.append(value))
    network.run(model, nets, bits, ["y"], CPU)
    assert seen[0].dtype == torch.bfloat16 and seen[0].flatten().tolist() == [1.0, -2.0]


def test_auto_is_a_device_that_there_is() -> None:
    assert network.device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert network.device_of("cpu") == CPU

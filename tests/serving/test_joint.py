"""Running questions together: equal to the local composition, each part once, and honest about what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from graftery.errors import InferenceRefused, Unavailable
from serving import joint, models, parts
from serving.asking import Question
from serving.branches import Branch, Model, Output, OutputSpec
from serving.joint import FeatureCache, Job
from serving.parts import Eager, Part
from serving.protocol import Declared
from serving.tensors import Array
from tests.support.world import NETWORK, World, images

CPU = torch.device("cpu")


def _loaded(world: World, name: str) -> tuple[Model, dict[str, Part]]:
    with world.database.read() as session:
        model = models.find(session, name)
    return model, {digest: parts.load(world.store, digest, CPU) for digest in model.parts}


def _run(model: Model, nets: dict[str, Part], x: Array, wanted: Sequence[str]) -> dict[str, Array]:
    return joint.run([Job(model, Question(x, tuple(wanted)), nets)], CPU)[0][0]


class Counting:
    """A form that counts the rows of its calls."""

    name = "counting"
    size_bytes = 0

    def __init__(self, part: Part, seen: list[int]) -> None:
        self._form, self._seen = part._form, seen

    def __call__(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        self._seen.append(len(x))
        assert self._form is not None
        return self._form(x)

    def free(self) -> None:
        pass


def _counted(nets: dict[str, Part]) -> tuple[dict[str, Part], dict[str, list[int]]]:
    seen: dict[str, list[int]] = {digest: [] for digest in nets}
    return {d: Part(d, part.outputs, Counting(part, seen[d])) for d, part in nets.items()}, seen


@pytest.mark.parametrize("ref", [f"{NETWORK}:1", f"{NETWORK}:2", "eight-teacher:1"])
@pytest.mark.parametrize("batch", [1, 7])
def test_answers_are_those_of_the_local_composition_to_the_bit(world: World, ref: str, batch: int) -> None:
    model, nets = _loaded(world, ref)
    x = images(batch)
    outputs, took = joint.run([Job(model, Question(x, ("is",)), nets)], CPU)
    np.testing.assert_array_equal(outputs[0]["is"], world.answer(ref, x))
    assert took.input_s >= 0 and took.infer_s > 0 and took.output_s >= 0
    assert set(took.parts_s) == set(model.parts) and sum(took.parts_s.values()) <= took.infer_s


def test_only_the_wanted_branches_run(world: World) -> None:
    model, nets = _loaded(world, "eight")
    other = Branch(None, "not loaded", model.branches[0].outputs)
    assert "not loaded" not in nets
    wide = Model(
        model.name, 1, model.category, model.input, None, (*model.branches, _renamed(other, "other")), model.parts
    )
    assert list(_run(wide, nets, images(2), [NETWORK])) == [NETWORK]
    with pytest.raises(KeyError):
        _run(wide, nets, images(2), ["other"])


def _renamed(branch: Branch, name: str) -> Branch:
    output = branch.outputs[0]
    declared = Declared(name, output.declared.datatype, output.declared.shape)
    return Branch(branch.adapter, branch.task, (Output(declared, output.inner, output.spec),))


class Picky(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("the pooling window is too large\nand a stack trace")


class Hungry(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes")


def _one(net: nn.Module, shape: tuple[int, ...], datatype: str = "FP32") -> tuple[Model, dict[str, Part]]:
    spec = OutputSpec(dtype="float32", shape=("N", 1))
    output = Output(Declared("y", datatype, (-1, 1)), "y", spec)
    branch = Branch(None, "t", (output,))
    made = {"c": Part("c", ["features"], Eager(nn.Identity())), "t": Part("t", ["y"], Eager(net))}
    return Model("m", 1, "c", Declared("input", datatype, shape), None, (branch,), {}), made


def test_free_sizes_that_the_net_cannot_run_on_are_the_callers(world: World) -> None:
    model, nets = _one(Picky(), (-1, -1))
    with pytest.raises(InferenceRefused, match=r"cannot run on shape \[1, 2\]: the pooling window is too large$"):
        _run(model, nets, np.zeros((1, 2), np.float32), ["y"])


class Short(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, torch.tensor([6])]


def test_a_position_outside_of_a_free_size_is_the_callers(world: World) -> None:
    model, nets = _one(Short(), (-1, -1))
    with pytest.raises(InferenceRefused, match=r"cannot run on shape \[1, 2\]: index 6 is out of bounds"):
        _run(model, nets, np.zeros((1, 2), np.float32), ["y"])


def test_an_error_of_a_net_with_fixed_sizes_is_ours(world: World) -> None:
    model, nets = _one(Picky(), (-1, 2))
    with pytest.raises(RuntimeError, match="the pooling window"):
        _run(model, nets, np.zeros((1, 2), np.float32), ["y"])


def test_too_little_memory_is_for_now(world: World) -> None:
    model, nets = _one(Hungry(), (-1, 2))
    with pytest.raises(Unavailable, match="too little memory"):
        _run(model, nets, np.zeros((1, 2), np.float32), ["y"])


def test_bf16_goes_through_by_its_bits() -> None:
    identity = nn.Identity()
    model, nets = _one(identity, (-1, 1), "BF16")
    bits = np.array([[0x3F80], [0xC000]], np.uint16)  # 1.0, -2.0
    np.testing.assert_array_equal(_run(model, nets, bits, ["y"])["y"], bits)
    seen = []
    identity.register_forward_hook(lambda _net, _args, value: seen.append(value))
    _run(model, nets, bits, ["y"])
    assert seen[0].dtype == torch.bfloat16 and seen[0].flatten().tolist() == [1.0, -2.0]


def test_categories_of_one_task_module_share_its_call(world: World) -> None:
    """Two versions of a network: one category module, two adapters, one task module."""
    (first, nets), (second, others) = _loaded(world, f"{NETWORK}:1"), _loaded(world, f"{NETWORK}:2")
    counted, seen = _counted(nets | others)
    x, y, z = images(3, 1), images(2, 2), images(4, 3)
    jobs = [Job(model, Question(rows, ("is",)), counted) for model, rows in ((first, x), (second, y), (first, z))]
    outputs, _ = joint.run(jobs, CPU)
    for found, (ref, rows) in zip(outputs, ((1, x), (2, y), (1, z)), strict=True):
        np.testing.assert_allclose(found["is"], world.answer(f"{NETWORK}:{ref}", rows), rtol=1e-5, atol=1e-6)
    assert seen[first.category] == [9] and seen[first.branches[0].task] == [9]
    assert seen[first.branches[0].adapter or ""] == [7] and seen[second.branches[0].adapter or ""] == [2]


def test_one_image_through_several_branches_runs_the_category_module_once(world: World) -> None:
    model, nets = _loaded(world, "eight")
    two = replace(model, branches=(*model.branches, _renamed(model.branches[0], "again")))
    counted, seen = _counted(nets)
    found = _run(two, counted, images(2), [NETWORK, "again"])
    np.testing.assert_array_equal(found[NETWORK], found["again"])
    assert seen[model.category] == [2] and seen[model.branches[0].task] == [4]


def test_rows_of_different_sizes_are_not_run_together() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1, keepdim=True)

    model, nets = _one(Mean(), (-1, -1))
    counted, seen = _counted(nets)
    jobs = [Job(model, Question(np.ones((2, n), np.float32) * n, ("y",)), counted) for n in (3, 5, 3)]
    outputs, _ = joint.run(jobs, CPU)
    assert [found["y"].tolist() for found in outputs] == [[[3.0]] * 2, [[5.0]] * 2, [[3.0]] * 2]
    assert sorted(seen["c"]) == [2, 4]


def test_cached_features_are_not_made_again_and_are_of_the_same_input(world: World) -> None:
    model, nets = _loaded(world, NETWORK)
    counted, seen = _counted(nets)
    cache = FeatureCache(10**6)

    def ask(x: Array) -> Array:
        return joint.run([Job(model, Question(x, ("is",)), counted)], CPU, cache)[0][0]["is"]

    x = images(2)
    first, second, other = ask(x), ask(x.copy()), ask(images(2, 9))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert seen[model.category] == [2, 2] and seen[model.branches[0].task] == [2, 2, 2]
    assert (cache.hits, cache.misses) == (1, 2)


def test_the_cache_drops_the_least_recently_used_and_keeps_its_bytes() -> None:
    cache = FeatureCache(100)
    keys = [cache.key("f", np.full((1, 2), n, np.float32)) for n in range(4)]
    for key in keys[:2]:
        cache.put(key, torch.zeros(10))
    assert cache.get(keys[0]) is not None
    cache.put(keys[2], torch.zeros(10))
    assert [cache.get(key) is not None for key in keys[:3]] == [True, False, True]
    cache.put(keys[3], torch.zeros(1000))
    assert cache.get(keys[3]) is None
    assert len({cache.key("f", np.zeros((2, 1), np.float32)), cache.key("f", np.zeros((1, 2), np.float32))}) == 2
    assert Counter(key[0] for key in keys) == {"f": 4}

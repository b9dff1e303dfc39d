from __future__ import annotations

import torch

from graftery.consolidate.modules import Learning
from graftery.module import ModuleFile
from graftery.spec.manifest import Parent
from graftery.transplant import sketch
from tests.support import transplants as t
from tests.support.cells import category, task

CPU = torch.device("cpu")


def test_weights_learn_and_what_batch_norms_have_seen_does_not() -> None:
    made = Learning.of(task(), CPU)
    running = {name for name in task().weights if "running" in name or "num_batches" in name}
    assert set(made.parameters) == set(task().weights) - running
    assert all(value.requires_grad for value in made.parameters.values())
    x = torch.rand(3, 4, 4, 4)
    assert torch.equal(made.net(x), task().net()(x))
    made.net(x).sum().backward()
    assert all(value.grad is not None for value in made.parameters.values())


def test_learning_changes_no_file() -> None:
    made, before = Learning.of(task(), CPU), {name: value.clone() for name, value in task().weights.items()}
    with torch.no_grad():
        for value in made.parameters.values():
            value += 1
    assert all(torch.equal(task().weights[name], value) for name, value in before.items())


def test_a_mask_does_not_learn() -> None:
    file = task()
    name = next(name for name, value in file.weights.items() if value.ndim == 1 and "running" not in name)
    masked = torch.full_like(file.weights[name], -torch.inf)
    other = ModuleFile(file.manifest, file.graph, {**file.weights, name: masked}, file.extras)
    assert name not in Learning.of(other, CPU).parameters


def test_a_sketch_is_of_what_the_module_was() -> None:
    plain = category()
    sketched = t.category_file(
        t.image_category(), torch.randn(2, 1, 8, 8), sketch=sketch(plain, torch.randn(9, 1, 8, 8))
    )
    made = Learning.of(sketched, CPU).made((Parent(role="category", digest="1" * 64),), {"consolidation": "{}"})
    assert set(made.extras) == {"probe.x", "probe.y"}
    assert made.content_digest == sketched.content_digest  # nothing was learned
    assert made.manifest.parents[0].digest == "1" * 64

"""The estimate of a transplant's memory: what it counts, and how far it is from what a transplant takes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from graftery.spec.manifest import Facts, TensorSpec
from graftery.spec.memory import FIXED_BYTES, MIB, estimate, estimate_clone
from graftery.spec.recipes import CloneRecipe, TransplantRecipe

QUIET: dict[str, Any] = {"bank": {"rows": 0}, "sources": ("noise",)}
# One transplant in a process of its own: what it takes beside what was estimated for it.
_MEASURE = """
import json, re, torch
from pathlib import Path
from torch import nn
from graftery.module import cut, trace
from graftery.module.shapes import survey
from graftery.module.verification import _facts
from graftery.spec.limits import Limits
from graftery.spec.manifest import OutputMeaning
from graftery.spec.memory import FIXED_BYTES, estimate
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import transplant

def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(block(3, 32), block(32, 32))
        self.head = nn.Sequential(block(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1))
    def forward(self, x):
        return self.head(self.features(x))

def parts():
    meaning = {"is": OutputMeaning(semantics="classification")}
    category, tasks = cut(trace(Net(), torch.zeros(2, 3, 32, 32), outputs=meaning), "features")
    return category, *tasks.values()

def facts(file):
    return _facts(file, survey(file.graph, file.weights, tuple(file.extras["probe.x"].shape), Limits()))

torch.set_num_threads(1)
(category, own), (_, other) = parts(), parts()
recipe = TransplantRecipe(steps=2, batch=16, inversion={"steps": 2, "images": 128}, sources=("inversion",))
# Not getrusage: its greatest size begins with that of the process which started this one.
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")
before = peak()
done = transplant(category, other, teacher_task=own, recipe=recipe)
guessed = estimate(facts(category), facts(other), facts(own), done.recipe) - FIXED_BYTES
print(json.dumps([peak() - before, guessed]))
"""


def _facts(parameters: int = 0, elements: int | None = 0, largest: int | None = 0, channels: int = 1) -> Facts:
    spec = TensorSpec(dtype="float32", shape=("N", channels))
    return Facts(
        input=spec,
        outputs={"out": spec},
        parameters=parameters,
        flops_per_sample=0,
        elements_per_sample=elements,
        largest_per_sample=largest,
        nodes=1,
        operators=(),
        content_digest="0" * 64,
    )


def _estimate(category: Facts, task: Facts, teacher: Facts | None = None, **recipe: Any) -> int:
    found = estimate(category, task, teacher, TransplantRecipe(**{**QUIET, **recipe}))
    assert found is not None
    return found - FIXED_BYTES


def test_weights_are_held_once() -> None:
    small = _estimate(_facts(), _facts(), _facts())
    assert _estimate(_facts(1000), _facts(100), _facts(10)) - small == 4 * 1110


def test_a_larger_batch_takes_more() -> None:
    nets = _facts(elements=MIB), _facts(elements=MIB), _facts(elements=MIB)
    assert _estimate(*nets, batch=64) > 1.9 * _estimate(*nets, batch=32) > 32 * 4 * MIB


def test_images_that_are_optimised_are_counted_where_they_are() -> None:
    nets = _facts(elements=MIB), _facts(elements=MIB), _facts(elements=MIB)
    without = _estimate(*nets, batch=2)
    inverted = _estimate(*nets, batch=2, sources=("inversion",), inversion={"images": 100})
    assert without < 100 * 4 * MIB < inverted
    assert _estimate(*nets, batch=2, sources=(), inversion={"images": 100}) == inverted, "left open: it may be taken"


def test_a_module_of_before_has_no_estimate() -> None:
    assert estimate(_facts(elements=None), _facts(), None, TransplantRecipe(**QUIET)) is None
    assert estimate(_facts(), _facts(), _facts(largest=None), TransplantRecipe(**QUIET)) is None


@pytest.mark.slow
def test_it_is_near_what_a_transplant_takes() -> None:
    said = subprocess.run([sys.executable, "-c", _MEASURE], check=True, capture_output=True, text=True).stdout
    took, guessed = json.loads(said.strip().splitlines()[-1])
    assert took > 128 * MIB, "too small a transplant to measure"
    assert 0.5 * took < guessed < 4 * took, (took // MIB, guessed // MIB)


def test_a_clones_memory_grows_with_images_views_and_the_source() -> None:
    def facts(values: int | None, parameters: int = 1000) -> Facts:
        return _facts(parameters, values, values)

    source, target, recipe = [facts(10_000), facts(5_000)], [facts(20_000)], CloneRecipe()
    least = estimate_clone(source, target, 100, recipe)
    assert least is not None
    assert least > FIXED_BYTES + 4 * 100 * recipe.views * 20_000
    without = estimate_clone(source, target, 100, recipe.model_copy(update={"mixed": 0}))
    assert without is not None
    assert without < least
    for more in (
        estimate_clone(source, target, 200, recipe),
        estimate_clone(source, target, 100, recipe.model_copy(update={"views": 9})),
        estimate_clone([facts(10_000, 5000), facts(5_000)], target, 100, recipe),
    ):
        assert more is not None
        assert more > least
    assert estimate_clone(source, [facts(None)], 100, recipe) is None

"""Small generic networks whose teachers a shared module can follow: each is that module, its weights moved a little."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from graftery.consolidate import Cell
from graftery.data import SampleSet
from graftery.data.streams import generator
from graftery.module import ModuleFile, trace
from graftery.nn.adapters import make_adapter
from graftery.spec.manifest import OutputMeaning, Parent, Semantics
from graftery.spec.recipes import AdapterRecipe, ConsolidateRecipe
from graftery.transplant import compose
from tests.support import transplants as t

SHORT = ConsolidateRecipe.model_validate(
    {
        "steps": 20,
        "batch": 8,
        "learning_rate": 3e-3,
        "sources": ["inversion", "noise"],
        "inversion": {"images": 8, "steps": 3},
        "bank": {"rows": 64},
        "stop": {"every": 4},
    }
)


def moved(net: nn.Module, by: float, seed: int = 0) -> nn.Module:
    """The net with other weights near its own; not those of batch norms."""
    with torch.no_grad():
        for index, weight in enumerate(net.parameters()):
            noise = torch.randn(weight.shape, generator=generator(seed, "moved", index))
            weight += by * float(weight.std(correction=0)) * noise
    return net.eval()


@cache
def task(outputs: int = 3, *, by: float = 0.0, semantics: Semantics = "classification") -> ModuleFile:
    """gS; `by` over 0, a gT near it."""
    dense = semantics == "segmentation"
    net = t.dense_task(outputs=outputs) if dense else t.image_task(outputs=outputs)
    made = t.task_file(moved(net, by) if by else net, torch.rand(2, 4, 4, 4), semantics)
    parents = (Parent(role="teacher", digest="0" * 64),)
    manifest = made.manifest.model_copy(update={"parents": parents, "metadata": {"by": str(by)}})
    return ModuleFile(manifest, made.graph, made.weights, made.extras)


@cache
def category(seed: int = 0, *, by: float = 0.0) -> ModuleFile:
    net = t.image_category(seed=seed)
    return t.category_file(moved(net, by) if by else net, torch.randn(2, 1, 8, 8))


@cache
def adapter(seed: int = 0) -> ModuleFile:
    """Near the identity."""
    h = make_adapter((4, 4, 4), (4, 4, 4), AdapterRecipe(layers=1, noise=0.02, final_relu=True), generator(seed, "h"))
    meaning = {"features": OutputMeaning(semantics="feature")}
    return trace(h.eval(), torch.rand(2, 4, 4, 4), kind="adapter", outputs=meaning)


def taught(name: str = "taught", seed: int = 0, **more: Any) -> Cell:
    """A cell with a teacher."""
    return Cell(name, category(seed), task(), teacher_task=task(by=0.15), **more)


def anchored(name: str = "anchored", seed: int = 1, **more: Any) -> Cell:
    """A cell without one."""
    return Cell(name, category(seed), task(), **more)


def judged(cell: Cell, x: Tensor) -> SampleSet:
    """Samples with the labels that the cell's teacher gives."""
    assert cell.teacher_task is not None
    with torch.no_grad():
        logits = compose(cell.category, None, cell.teacher_task)(x)
    return SampleSet(x, logits.argmax(1))

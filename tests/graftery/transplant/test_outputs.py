"""Every kind of task output is transplanted without a label, here from convolutional features to tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graftery.data import SampleSet
from graftery.data.noise import noise_images
from graftery.data.streams import generator
from graftery.errors import SamplesRefused
from graftery.module import ModuleFile, trace
from graftery.spec.manifest import OutputMeaning, Semantics
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import Transplant, compose, transplant
from tests.support import transplants as t

OUTPUTS: tuple[tuple[Semantics, tuple[int, ...]], ...] = (
    ("classification", (3,)),
    ("segmentation", (2, 4, 4)),
    ("regression", (2,)),
    ("feature", (6,)),
)


class _Task(nn.Module):
    """Tokens [N, 9, 5] or a map [N, 4, 4, 4] to outputs [N, *shape]."""

    def __init__(self, inputs: int, shape: tuple[int, ...], seed: int) -> None:
        super().__init__()
        torch.manual_seed(700 + seed)
        self.shape = shape
        size = int(torch.tensor(shape).prod())
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 24), nn.Tanh(), nn.Linear(24, size))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).unflatten(1, self.shape)


class _DenseTokens(nn.Module):
    """Tokens [N, 16, 5] to logits of pixels [N, 2, 4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(800)
        self.body = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).transpose(1, 2).unflatten(2, (4, 4))


def _dense_teacher() -> nn.Module:
    """A map [N, 4, 4, 4] to logits of pixels [N, 2, 4, 4] that are not almost the same everywhere."""
    torch.manual_seed(801)
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 2, 1))
    nn.init.normal_(net[0].weight, std=0.5)  # type: ignore[arg-type]
    return net


def _files(semantics: Semantics, shape: tuple[int, ...]) -> tuple[ModuleFile, ModuleFile, ModuleFile]:
    f = t.image_files()[0]
    if semantics == "segmentation":
        task = t.task_file(_DenseTokens(), torch.randn(2, 16, 5), semantics)
        return f, task, t.task_file(_dense_teacher(), torch.rand(2, 4, 4, 4), semantics)
    task = t.task_file(_Task(45, shape, 1), torch.randn(2, 9, 5), semantics)
    return f, task, t.task_file(_Task(64, shape, 0), torch.rand(2, 4, 4, 4), semantics)


def _run(files: tuple[ModuleFile, ModuleFile, ModuleFile], steps: int, **options: Any) -> Transplant:
    recipe = TransplantRecipe.model_validate({"steps": steps, "batch": 16, "learning_rate": 1e-2, "sources": ["noise"]})
    return transplant(files[0], files[1], teacher_task=files[2], recipe=recipe, **options)


def _explained(files: tuple[ModuleFile, ModuleFile, ModuleFile], done: Transplant) -> float:
    """Share of the variance of the teacher's outputs that the student's explain, on fresh noise."""
    x = noise_images((256, 1, 8, 8), t.PREPROCESSING, done.recipe.noise, torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours, theirs = (compose(files[0], h, g)(x) for h, g in ((done.adapter, files[1]), (None, files[2])))
    if files[1].manifest.outputs["is"].semantics in ("classification", "segmentation"):
        ours, theirs = ours.softmax(1), theirs.softmax(1)
    return float(1 - (ours - theirs).square().mean() / theirs.var(0).mean())


@pytest.mark.parametrize("semantics, shape", OUTPUTS)
def test_every_kind_of_output_is_learned_without_labels(semantics: Semantics, shape: tuple[int, ...]) -> None:
    files = _files(semantics, shape)
    done = _run(files, 150)
    jacobian = set() if semantics == "segmentation" else {"back_distillation"}
    assert set(done.recipe.objectives) == {"distillation"} | jacobian
    # f ends with a ReLU, but what it is joined to are no features of that kind.
    assert done.recipe.adapter.final_relu is False
    assert _explained(files, done) > 0.3
    assert (done.metrics["agreement"] is not None) == (semantics == "classification")


class _In(nn.Module):
    """A net whose outputs are told in another unit."""

    def __init__(self, net: nn.Module, unit: float) -> None:
        super().__init__()
        self.net, self.unit = net, unit

    def forward(self, x: Tensor) -> Tensor:
        return self.unit * self.net(x)


def test_labels_of_a_regression_teach_the_same_in_every_unit() -> None:
    """Beside a teacher: `distillation` has no unit either."""
    f, x = t.category_file(t.vector_category(), torch.randn(2, 3)), torch.randn(300, 3, generator=generator(0, "x"))
    with torch.no_grad():
        y = t.vector_task()(t.vector_category()(x))
    noisy = y + 0.7 * y.std() * torch.randn(y.shape, generator=generator(0, "y"))
    found = []
    for unit in (1.0, 1e3):
        nets = (_In(t.vector_task(seed=seed), unit) for seed in (1, 0))
        task, teacher = (t.task_file(net, torch.rand(2, 5), "regression") for net in nets)
        samples, measured = SampleSet(x[:20], unit * noisy[:20]), SampleSet(x[20:], unit * y[20:])
        recipe = TransplantRecipe(steps=60, batch=16, learning_rate=1e-2)
        done = transplant(f, task, teacher_task=teacher, recipe=recipe, samples=samples, evaluate_on=measured)
        found.append(done.metrics["adapter"]["r2"])
    assert found[0] > 0.5
    assert found[1] == pytest.approx(found[0], abs=0.01)


def test_an_embedding_has_no_labels_and_is_not_measured_by_any() -> None:
    files = _files("feature", (6,))
    labelled = SampleSet(torch.randn(4, 1, 8, 8), torch.zeros(4, 6))
    for role in ("samples", "evaluate_on"):
        with pytest.raises(SamplesRefused, match="is a feature"):
            _run(files, 1, **{role: labelled})
    assert _run(files, 1).metrics["adapter"] is None


def test_maps_join_a_task_on_vectors_of_as_many_channels() -> None:
    """The identity stands beside the adapter only where both shapes are the same, also in how many dimensions they have."""
    torch.manual_seed(0)
    category = trace(nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU()), torch.randn(2, 1, 8, 8), kind="category")
    meaning = {"is": OutputMeaning(semantics="classification")}
    own = trace(nn.Sequential(nn.Flatten(), nn.Linear(128, 1)), torch.randn(2, 8, 4, 4), kind="task", outputs=meaning)
    shared = trace(nn.Linear(8, 1), torch.randn(2, 8), kind="task", outputs=meaning)
    samples = SampleSet(torch.randn(12, 1, 8, 8), torch.arange(12) % 2)
    recipe = TransplantRecipe(steps=2, sources=("noise",))
    done = transplant(category, shared, teacher_task=own, evaluate_on=samples, recipe=recipe)
    assert done.metrics["adapter"] is not None and done.metrics["identity"] is None

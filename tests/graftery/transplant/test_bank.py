from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftery.data import SampleSet
from graftery.spec.recipes import BankRecipe, TransplantRecipe
from graftery.transplant.bank import Bank
from graftery.transplant.nets import Nets
from graftery.transplant.sources import Batch, Batches, Noise, from_samples
from graftery.transplant.training import step_losses
from tests.support.transplants import image_category, image_task

CPU = torch.device("cpu")
RECIPE = TransplantRecipe(
    objectives={"distillation": 4.0, "back_distillation": 1.0},
    sources=("samples", "noise"),
    batch=8,
    bank=BankRecipe(rows=40),
)


def _nets() -> Nets:
    return Nets(image_category(), image_task(outputs=3, seed=1), image_task(outputs=3))


def _batches(nets: Nets, recipe: TransplantRecipe = RECIPE) -> Batches:
    samples = SampleSet(torch.randn(20, 1, 8, 8), torch.arange(20) % 3)
    draws = {
        "samples": from_samples(samples, "samples", recipe, CPU, balanced=True),
        "noise": Noise((1, 8, 8), None, recipe).draw(CPU),
    }
    return Batches(draws, {}, nets.features, recipe.batch)  # type: ignore[arg-type]


def _matches(row: Tensor, rows: Tensor) -> bool:
    return bool((rows == row).flatten(1).all(1).any())


def test_a_batch_has_equal_parts_of_stored_rows_labelled_ones_first() -> None:
    nets = _nets()
    batches = _batches(nets)
    bank = Bank.of(batches, nets.teacher, RECIPE)
    batch, made = bank(3), [batches(step) for step in range(5)]
    assert batch.features.shape[0] == 8 and batch.labels is not None and len(batch.labels) == 4
    first, second = torch.cat([b.features[:4] for b in made]), torch.cat([b.features[4:] for b in made])
    assert all(_matches(row, first) for row in batch.features[:4])
    assert all(_matches(row, second) for row in batch.features[4:])


def test_labels_and_the_teachers_words_stay_with_their_rows() -> None:
    nets = _nets()
    assert nets.teacher is not None
    batches = _batches(nets)
    batch = Bank.of(batches, nets.teacher, RECIPE)(1)
    known = {tuple(x.flatten().tolist()): int(y) for s in range(5) for x, y in zip(*_labelled(batches(s)), strict=True)}
    assert batch.labels is not None and batch.direction is not None and batch.gradient is not None
    assert [known[tuple(x.flatten().tolist())] for x in batch.features[:4]] == batch.labels.tolist()
    features = batch.features.clone().requires_grad_()
    output = nets.teacher(features)
    assert torch.allclose(output, batch.teacher, atol=1e-5)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad((output * batch.direction).sum(), features)
    assert torch.allclose(gradient, batch.gradient, atol=1e-5)
    assert torch.allclose(batch.direction.norm(dim=1), torch.ones(8), atol=1e-5)


def _labelled(batch: Batch) -> tuple[Tensor, Tensor]:
    assert batch.labels is not None
    return batch.features[: len(batch.labels)], batch.labels


def test_stored_words_and_fresh_ones_make_the_same_losses() -> None:
    nets, h = _nets(), nn.Conv2d(4, 4, 1)
    batch = Bank.of(_batches(nets), nets.teacher, RECIPE)(0)
    stored = step_losses(nets, h, batch, recipe=RECIPE, semantics="classification", step=0)
    bare = Batch(batch.features, batch.labels)
    fresh = step_losses(nets, h, bare, recipe=RECIPE, semantics="classification", step=0)
    assert stored["distillation"].detach() == pytest.approx(float(fresh["distillation"].detach()), rel=1e-4)
    # Other random directions: not the same number, but the same kind of one.
    assert 0.3 < float(stored["back_distillation"] / fresh["back_distillation"]) < 3


def test_a_step_draws_the_same_rows_again() -> None:
    nets = _nets()
    one, other = (Bank.of(_batches_of(7, nets), nets.teacher, RECIPE) for _ in range(2))
    assert torch.equal(one(5).features, other(5).features)
    assert not torch.equal(one(5).features, one(6).features)


def _batches_of(seed: int, nets: Nets) -> Batches:
    torch.manual_seed(seed)
    return _batches(nets)


@pytest.mark.parametrize("bank", [BankRecipe(rows=0), BankRecipe(rows=15), BankRecipe(rows=2**20, mebibytes=1)])
def test_memory_and_rows_are_limits(bank: BankRecipe) -> None:
    nets = _nets()
    recipe = RECIPE.model_copy(update={"bank": bank})
    batches = _batches(nets, recipe)
    made = Bank.of(batches, nets.teacher, recipe)
    if bank.rows < 16:
        assert made is batches  # not even two batches: fresh ones at every step
    else:
        assert isinstance(made, Bank)
        tensors = [t for g in made.groups for t in (g.features, g.teacher, g.direction, g.gradient) if t is not None]
        assert 2**19 < sum(tensor.numel() * tensor.element_size() for tensor in tensors) <= 2**20


def test_without_a_teacher_there_are_features_and_labels() -> None:
    nets = _nets()
    recipe = RECIPE.model_copy(update={"objectives": {"direct": 1.0}})
    batch = Bank.of(_batches(nets, recipe), None, recipe)(0)
    assert batch.teacher is None and batch.gradient is None and batch.labels is not None

"""The same code on CUDA: learned as on the CPU, the same bytes at every run, and no step waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from graftery.data import SampleSet
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import Checkpoint, Transplant, transplant
from graftery.transplant.bank import Bank
from graftery.transplant.given import Given
from graftery.transplant.nets import Nets, differentiable_twice
from graftery.transplant.stages import Run
from graftery.transplant.training import step_losses
from tests.support import transplants as t

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
SHORT = TransplantRecipe.model_validate(
    {"steps": 30, "batch": 16, "sources": ["samples", "inversion", "noise"], "inversion": {"images": 16, "steps": 10}}
)


def _samples() -> SampleSet:
    return SampleSet(torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2)


def _run(device: str, recipe: TransplantRecipe = SHORT, **options: Any) -> Transplant:
    f, task, teacher = t.image_files()
    return transplant(f, task, teacher_task=teacher, recipe=recipe, samples=_samples(), device=device, **options)


@pytest.fixture
def _no_waiting() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    yield
    torch.cuda.set_sync_debug_mode(before)


def test_it_learns_what_the_cpu_learns() -> None:
    ours, theirs = (_run(device, evaluate_on=_samples()) for device in ("cuda", "cpu"))
    losses = [[entry["loss"] for entry in done.history if entry["phase"] == "train"] for done in (ours, theirs)]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-2)
    assert losses[0][-1] == pytest.approx(losses[1][-1], rel=0.2)
    assert ours.recipe == theirs.recipe


def test_the_same_recipe_gives_the_same_bytes_and_so_does_a_resumed_run(tmp_path: Path) -> None:
    kept: list[Checkpoint] = []
    digests = {_run("cuda", checkpoint=kept.append, checkpoint_s=0.0).adapter.content_digest for _ in range(2)}
    for index in (5, 25):
        kept[index].save(tmp_path / "checkpoint")
        digests.add(_run("cuda", resume=Checkpoint.load(tmp_path / "checkpoint")).adapter.content_digest)
    assert len(digests) == 1


def test_choosing_a_depth_works_there() -> None:
    recipe = SHORT.model_copy(update={"adapter": SHORT.adapter.model_copy(update={"choose": (1, 2)})})
    assert _run("cuda", recipe).recipe.adapter.layers in (1, 2)


@pytest.mark.parametrize("rows", [0, 64])
@pytest.mark.parametrize("source", ["samples", "unlabelled", "noise"])
def test_no_step_waits_for_the_device(source: str, rows: int, _no_waiting: None) -> None:
    f, task, teacher = t.image_files()
    given = Given(f, task, teacher, samples=_samples(), unlabelled=SampleSet(_samples().x))
    recipe = SHORT.model_copy(update={"sources": (source,), "bank": SHORT.bank.model_copy(update={"rows": rows})})
    run = Run.of(given, recipe, torch.device("cuda"))
    nets: Nets = run.nets
    adapter = run._adapter(run.recipe)
    with differentiable_twice():
        batches = Bank.of(run._batches(None), nets.teacher, run.recipe)
        for step in range(3):
            torch.cuda.set_sync_debug_mode("error" if step else "default")
            losses = step_losses(nets, adapter, batches(step), recipe=run.recipe, semantics="classification", step=step)
            torch.stack(list(losses.values())).sum().backward()

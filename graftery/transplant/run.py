"""The public door: modules in, adapter out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from graftery.data.samples import SampleSet
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Loop, Progress
from graftery.learning.memory import within_memory
from graftery.learning.repeating import repeatable
from graftery.module import ModuleFile
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant.given import Given
from graftery.transplant.inverted import InversionCache
from graftery.transplant.nets import differentiable_twice
from graftery.transplant.stages import Run


@dataclass(frozen=True)
class Transplant:
    """What a transplant gives.

    Args:
        adapter: h as a module file of kind "adapter".
        recipe: exactly what was done: every default filled in.
        metrics: JSON: `adapter`, `identity`, `teacher` (on the samples to measure on) and `agreement`; None where it was
            not measured. `steps`: of the training that gave h, which may end by itself; `watched`: see `watching.watch`. With depths to choose from also
            `choice`: the depth chosen, and the score of each. With samples to measure on also the intervals of
            `graftery.transplant.evaluation.judge`.
        history: about fifty entries a phase: phase, step and loss.
    """

    adapter: ModuleFile
    recipe: TransplantRecipe
    metrics: dict[str, Any]
    history: list[dict[str, float | int | str]] = field(default_factory=list)


def transplant(
    category: ModuleFile,
    task: ModuleFile,
    *,
    teacher_task: ModuleFile | None = None,
    recipe: TransplantRecipe = TransplantRecipe(),  # noqa: B008  immutable
    samples: SampleSet | None = None,
    unlabelled: SampleSet | None = None,
    evaluate_on: SampleSet | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Callable[[Checkpoint], None] | None = None,
    checkpoint_s: float = 3.0,
    resume: Checkpoint | None = None,
    inversions: InversionCache | None = None,
) -> Transplant:
    """Learn the adapter h with which gS(h(f(x))) does what gT(f(x)) does. f, gS and gT do not change by a bit.

    Args:
        category: f.
        task: gS, the task module that other categories share.
        teacher_task: gT, f's own task module; without it only `direct` is possible.
        recipe: what it leaves open is filled in (`graftery.spec.plan`).
        samples: labelled samples; the recipe says how many of them are used.
        unlabelled: inputs without labels.
        evaluate_on: labelled samples to measure on; never trained on.
        device: where to train. The same recipe, seed, device and number of threads give the same bytes.
        progress: called at most ten times a second; may raise to stop the transplant.
        checkpoint: called about every `checkpoint_s` seconds.
        resume: a checkpoint of the same transplant; the adapter is the one that an unbroken run gives.
        inversions: images of earlier transplants of f, which are taken where they are those that would be made; and kept.

    Raises:
        Misfit: modules that no adapter joins.
        RecipeRefused: `recipe_invalid`, `samples_missing`.
        SamplesRefused: samples that do not fit.
        TrainingFailed: `diverged`, `out_of_memory`, `frozen_changed`.

    Source: Zhang et al. 2018; what is reconstructed and what is ours: docs/methods/transplant.md.
    """
    given = Given(category, task, teacher_task, samples, unlabelled, evaluate_on)
    hint = "use a smaller batch or fewer inversion images"
    with within_memory(hint):
        run = replace(Run.of(given, recipe, torch.device(device)), kept=inversions)
    hooks = Loop("train", progress, checkpoint, checkpoint_s, resume, fingerprint=given.fingerprint(run.recipe))
    with within_memory(hint), differentiable_twice(), repeatable(run.device):
        adapter, recipe, told = run.learn(hooks)
        run = replace(run, recipe=recipe)
        return Transplant(run.file(adapter), recipe, run.measure(adapter, hooks) | told, hooks.history)

"""The depth of an adapter, chosen by how well student and teacher agree on inputs that were not trained on.

Source: ours (docs/methods/transplant.md). No label is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Loop
from graftery.nn.pieces import in_pieces
from graftery.spec.manifest import Semantics
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import metrics, objectives
from graftery.transplant.nets import Nets

STEPS = "steps"
"""Beside the names of an adapter's tensors in a checkpoint."""
HELD_OUT_STEP = 10**7
"""A step that no training comes to: what the sources draw at it was not trained on."""


@dataclass(frozen=True)
class Score:
    """How near a student is to its teacher.

    Args:
        layers: of its adapter.
        kappa: Cohen's, of their decisions; None where outputs are no decisions of one class each, or where the teacher
            decides all alike.
        loss: the distillation loss.
    """

    layers: int
    kappa: float | None
    loss: float

    @property
    def rank(self) -> tuple[float, float]:
        """Greater is better."""
        return self.kappa or 0.0, -self.loss

    @property
    def json(self) -> dict[str, float]:
        return {"loss": self.loss} if self.kappa is None else {"kappa": self.kappa, "loss": self.loss}


@torch.no_grad()
def score(nets: Nets, features: Tensor, semantics: Semantics, recipe: TransplantRecipe, adapter: nn.Module) -> Score:
    """How near gS(h(x)) is to gT(x) on features [n, ...]; kappa for classification.

    Raises:
        ValueError: there is no gT.
    """
    if nets.teacher is None:
        raise ValueError("without the teacher's task module there is nothing to agree with")
    student, teacher = in_pieces(nn.Sequential(adapter, nets.task), features), in_pieces(nets.teacher, features)
    loss = objectives.distillation(student, teacher, semantics, recipe.temperature)
    decided = [metrics.decide(logits).cpu() for logits in (student, teacher)] if semantics == "classification" else []
    return Score(recipe.adapter.layers or 1, metrics.kappa(decided[0], decided[1]) if decided else None, float(loss))


@dataclass(frozen=True)
class Tried:
    """An adapter of one depth: the recipe that gives it, and its steps; None: the checkpoint of an older version does not say.

    `watched`: the scores along its training; none where that was done before a resumption.
    """

    adapter: nn.Module
    recipe: TransplantRecipe
    steps: int | None
    score: Score
    watched: tuple[float, ...] = ()


def learn_best(
    recipe: TransplantRecipe,
    learn: Callable[[TransplantRecipe, nn.Module, Loop], int],
    make: Callable[[TransplantRecipe], nn.Module],
    judge: Callable[[TransplantRecipe, nn.Module], Score],
    loop: Loop,
) -> tuple[Tried, list[Score]]:
    """An adapter of each depth of `recipe.adapter.choose`, each learned as if it were the only one; the best is kept.

    Checkpoints carry the adapters that are done, so that a broken choice goes on at the depth where it stood.

    Args:
        recipe: complete.
        learn: trains an adapter in place, under a recipe that names its depth, and gives its number of steps.
        make: the adapter of such a recipe at its start.
        judge: its score.
        loop: the surroundings of the training.

    Returns:
        The best adapter (of equals, the shallowest named first) with a recipe that gives it without a choice; every score.
    """
    kept, resume = dict(loop.kept), loop.resume
    tried: list[Tried] = []
    for layers in recipe.adapter.choose:
        one = _with_layers(recipe, layers)
        adapter = make(one)
        steps: int | None
        watched: tuple[float, ...] = ()
        if done := _done(resume, layers, adapter):
            steps = int(done.pop(STEPS)) if STEPS in done else None
            adapter.load_state_dict(done)
        else:
            steps = learn(one, adapter, replace(loop, kept=kept, resume=resume))
            resume, watched = None, tuple(loop.scores)  # The checkpoint was of this depth.
        state = {**({} if steps is None else {STEPS: torch.tensor(steps)}), **adapter.state_dict()}
        kept |= {_name(layers, name): value.detach().cpu().clone() for name, value in state.items()}
        tried.append(Tried(adapter, one, steps, judge(one, adapter), watched))
    return max(tried, key=lambda each: each.score.rank), [each.score for each in tried]


def best_json(recipe: TransplantRecipe, scores: Sequence[Score]) -> dict[str, object]:
    """The choice as a metric: the depth that was chosen, and the score of every depth."""
    return {"layers": recipe.adapter.layers, **{str(each.layers): each.json for each in scores}}


def told_json(recipe: TransplantRecipe, steps: int | None, watched: Sequence[float]) -> dict[str, object]:
    """The training as metrics: its `steps`, and `watched`, [step, score] of each look at student and teacher, if there were any."""
    looks = [[recipe.stop.every * (index + 1), round(score, 5)] for index, score in enumerate(watched)]
    return {"steps": steps, **({"watched": looks} if looks else {})}


def _with_layers(recipe: TransplantRecipe, layers: int) -> TransplantRecipe:
    adapter = recipe.adapter.model_copy(update={"layers": layers, "choose": ()})
    return recipe.model_copy(update={"adapter": adapter})


def _done(resume: Checkpoint | None, layers: int, adapter: nn.Module) -> dict[str, Tensor]:
    """The state of the adapter of this depth, if the checkpoint is of a later one."""
    tensors = {} if resume is None else resume.tensors
    found = {name: tensors.get(_name(layers, name)) for name in (STEPS, *adapter.state_dict())}
    return {name: value for name, value in found.items() if value is not None}


def _name(layers: int, name: str) -> str:
    return f"layers{layers}.{name}"

"""Rounds of an inversion: images on which the student that learned from all before them is wrong, and so on.

Images that only match statistics leave out most of what real images have in them, and a student of them is wrong there with
confidence. Those on which it differs most from gT, among images whose statistics still match, are what it has yet to learn.

Source: ours for transplants; competition of student and teacher over inverted images is DeepInversion's (Yin et al. 2020,
"adaptive"), and of data-free distillation (Micaelli and Storkey 2019; Fang et al. 2019). docs/methods/transplant.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from graftery.learning.loop import Loop
from graftery.spec.recipes import RIVAL_ROWS, TransplantRecipe
from graftery.transplant.inversion import Inversion

RIVAL = "rival."
"""Before the names of the student's tensors in a checkpoint of a round."""


@dataclass(frozen=True)
class Rounds:
    """An inversion, and rounds after it.

    Args:
        inversion: of the rounds' images.
        first: makes the first images of a start, or has them.
        task: gS.
        rival: a student at its start, as a recipe says.
        learn: trains a student in place on images, under a recipe without a watch.
        recipe: complete.
    """

    inversion: Inversion
    first: Callable[[Tensor, Loop], Tensor]
    task: nn.Module
    rival: Callable[[TransplantRecipe], nn.Module]
    learn: Callable[[TransplantRecipe, nn.Module, Tensor, Loop], None]
    recipe: TransplantRecipe

    def __call__(self, start: Tensor, hooks: Loop) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Images [N, ...], the first of which started as `start`, and the state of the student that they were made against.

        A checkpoint says by its number of images in which round it was made. The state is empty where there was no round, and
        where the checkpoint is of what comes after the rounds.
        """
        known = hooks.resume.tensors.get("images") if hooks.resume is not None else None
        images = self.first(start, hooks.phase_of("inversion", {})) if known is None else known.to(start.device)
        rival, recipe = None, self.recipe.inversion
        while (made := (len(images) - len(start)) // recipe.round_images) < recipe.rounds:
            rival = self._taught(rival or self.rival(self._plain), images, hooks)
            images = torch.cat([images, self._harder(images, made, rival, hooks)])
        return images, {} if rival is None else rival.state_dict()

    def _taught(self, rival: nn.Module, images: Tensor, hooks: Loop) -> nn.Module:
        """The student after it learned from these images: the one of the checkpoint, if that is of what comes after."""
        loop = hooks.phase_of("inversion", {"images": images})
        if loop.resume is not None:
            tensors = loop.resume.tensors
            rival.load_state_dict({name: tensors[f"{RIVAL}{name}"] for name in rival.state_dict()})
            return rival
        self.learn(self._plain, rival, images, hooks.phase_of("train", {"images": images.cpu()}))
        return rival

    @property
    def _plain(self) -> TransplantRecipe:
        """Of the student of a round: a fixed number of steps, an adapter as deep as is named."""
        whole = self.recipe
        layers = whole.inversion.rival_layers or whole.adapter.layers
        adapter = whole.adapter.model_copy(update={"layers": layers, "choose": ()})
        stop = whole.stop.model_copy(update={"patience": 0})
        bank = whole.bank.model_copy(update={"rows": min(whole.bank.rows, RIVAL_ROWS)})
        fields = {"steps": whole.inversion.rival_steps, "adapter": adapter, "stop": stop, "bank": bank}
        return whole.model_copy(update=fields)

    def _harder(self, images: Tensor, made: int, rival: nn.Module, hooks: Loop) -> Tensor:
        """Images that start as some of those before, on which student and teacher differ."""
        ours, rows = self.recipe.inversion, torch.arange(self.recipe.inversion.round_images)
        start = images[((rows + made * len(rows)) % len(images)).to(images.device)]
        pace = ours.model_copy(update={"steps": ours.round_steps, "learning_rate": ours.round_learning_rate})
        recipe = self.recipe.model_copy(update={"inversion": pace})
        state = {f"{RIVAL}{name}": value.detach().cpu().clone() for name, value in rival.state_dict().items()}
        loop = hooks.phase_of("inversion", {"images": images.cpu(), **state})
        return replace(self.inversion, recipe=recipe, rival=nn.Sequential(rival, self.task))(start, loop)

"""What to clone: the channels of a source that its wanted classes need.

Shapes: N batch, K the source's classes, U units (channels that go together).
Source: Ye et al. 2023, localization; the straight-through gates, the start by saliency and the losses are reconstructed
(docs/methods/cloning.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from graftery.cloning.channels import Channels
from graftery.cloning.local import Balanced, Local
from graftery.cloning.slicing import masked, sliced
from graftery.errors import Misfit
from graftery.learning.loop import Loop, optimise
from graftery.learning.pace import Pace
from graftery.module import ModuleFile
from graftery.module.build import buffer_names
from graftery.nn.statistics import on_batch, reestimated
from graftery.spec.recipes import CloneRecipe

SALIENCY_IMAGES = 512
"""At most as many images for the first saliency."""
STATISTICS_IMAGES = 1024
"""Drawn from the local set's views for the batch norms of what was kept."""


@dataclass(frozen=True)
class Localized:
    """What was kept of a source.

    Args:
        file: the source without the other channels: its logits are those of the wanted classes.
        whole: the same with the logits of all the source's classes.
        kept: how many units stayed, and of how many, by the weight of their layer.
    """

    file: ModuleFile
    whole: ModuleFile
    kept: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Gates:
    """A gate for each unit of a source that may go.

    Args:
        roots: of the units.
        layers: positions of each layer's units among them.
        keep: how many of each layer stay.
    """

    source: ModuleFile
    channels: Channels
    roots: tuple[int, ...]
    layers: tuple[Tensor, ...]
    keep: tuple[int, ...]

    @classmethod
    def of(cls, source: ModuleFile, share: float) -> Gates:
        """Args: `source`, with a linear end; `share`, of each layer's units that stay, at least one.

        Raises:
            Misfit: `localization_failed`; no channel of it may go.
        """
        channels = Channels.of(source)
        ((_, end),) = source.graph.outputs.items()
        layers = list(channels.units(free=channels.flows[end].atoms).values())
        if not layers and share < 1:
            raise Misfit(
                "no channel of the source can be taken out: every layer passes an operator through which channels are not followed",
                code="localization_failed",
                hint="clone the whole source with keep 1",
            )
        roots = [root for layer in layers for root in layer]
        at = {root: index for index, root in enumerate(roots)}
        places = tuple(torch.tensor([at[root] for root in layer]) for layer in layers)
        # A share such as .25 of 4 is 1, whatever its last bit says.
        keep = tuple(max(1, math.ceil(share * len(layer) - 1e-9)) for layer in layers)
        return cls(source, channels, tuple(roots), places, keep)

    def hard(self, scores: Tensor) -> Tensor:
        """1 for the best of each layer, else 0; [U]. The gradient goes straight through to the scores."""
        chosen = torch.zeros_like(scores)
        for places, keep in zip(self.layers, self.keep, strict=True):
            at = places.to(scores.device)
            chosen[at[scores.detach()[at].topk(keep).indices]] = 1.0
        return chosen + scores - scores.detach()

    def weights(self, gates: Tensor) -> dict[str, Tensor]:
        """The source's weights as they are with these gates, by the names of the net's buffers."""
        names = buffer_names(self.source.graph)
        moved = {name: weight.to(gates.device) for name, weight in self.source.weights.items()}
        return {names[name]: weight for name, weight in masked(self.channels, moved, self.roots, gates).items()}

    def cut(self, scores: Tensor, classes: Sequence[int] | None) -> ModuleFile:
        """The source without the units whose gates are shut."""
        shut = self.hard(scores).detach().cpu() == 0
        gone = [root for root, closed in zip(self.roots, shut.tolist(), strict=True) if closed]
        return sliced(self.source, self.channels, gone, classes)

    def told(self) -> dict[str, tuple[int, int]]:
        """How many units of each layer stay, by its weight."""
        written = {
            use.atoms: use.weight for use in reversed(list(self.channels.uses.values())) if use.place == "writes"
        }
        made: dict[str, tuple[int, int]] = {}
        for places, keep in zip(self.layers, self.keep, strict=True):
            roots = {self.roots[at] for at in places.tolist()}
            name = next(weight for atoms, weight in written.items() if self.channels.root(atoms[0]) in roots)
            made[name] = (keep, len(places))
        return made


def localize(
    source: ModuleFile, wanted: Sequence[int], local: Local, *, recipe: CloneRecipe, loop: Loop, device: torch.device
) -> Localized:
    """Find the channels that the wanted classes need, and take the others out.

    Math: over scores s, the mean of KL(S(x) || S_g(x)), half of the images wanted and half original, + CE(S_g(x), y) of the
    wanted ones; g = top of s in each layer; batch norms on the batch's own statistics.

    Args:
        source: S, a whole net with a linear end (`with_linear_end`); it does not change.
        wanted: indices of its classes.
        local: views of the local set. What S says of the original images tells what the wanted classes are not.
        loop: progress.

    Raises:
        Misfit: `localization_failed`.
        TrainingFailed: `diverged`.
    """
    gates = Gates.of(source, recipe.keep)
    if recipe.keep == 1 or not gates.roots:
        whole = source
    else:
        scores = _learned(gates, torch.tensor(list(wanted)), local, recipe=recipe, loop=loop, device=device)
        whole = restated(gates.cut(scores, None), local, recipe)
    return Localized(sliced(whole, Channels.of(whole), (), wanted), whole, gates.told())


def restated(file: ModuleFile, local: Local, recipe: CloneRecipe) -> ModuleFile:
    """A masked source with the batch norms' statistics of the local set, half of it wanted images."""
    rows = Balanced.of(local, STATISTICS_IMAGES, recipe.seed)("statistics", 0)
    return reestimated(file, local.x[rows])


def _learned(
    gates: Gates, wanted: Tensor, local: Local, *, recipe: CloneRecipe, loop: Loop, device: torch.device
) -> Tensor:
    """The scores of the units [U]."""
    net = gates.source.net().to(device)
    x, draw = local.x.to(device), Balanced.of(local, recipe.batch, recipe.seed)
    truth = wanted[(local.y - local.known).clamp_min(0)].to(device)
    with torch.no_grad():
        said = torch.cat([net(chunk) for chunk in torch.split(x, SALIENCY_IMAGES)])
    scores = _saliency(gates, net, x[local.wanted], truth[local.wanted]).requires_grad_()

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = draw("localize", step).to(device)
        logits = on_batch(net, x[rows], gates.weights(gates.hard(scores)))
        shown = slice(0, len(rows) // 2)
        return {"kept": divergence(said[rows], logits), "wanted": F.cross_entropy(logits[shown], truth[rows][shown])}

    pace = Pace(recipe.localization_steps, recipe.localization_learning_rate)
    optimise({"scores": scores}, terms, pace, loop)
    return scores.detach()


def _saliency(gates: Gates, net: fx.GraphModule, images: Tensor, truth: Tensor) -> Tensor:
    """|dCE/dg| at g = 1, [U], relative to the greatest of its layer: how much a unit means to the wanted classes."""
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:SALIENCY_IMAGES].to(images.device)
    total = torch.zeros(len(gates.roots), device=images.device)
    for chunk in torch.split(rows, 32):
        open_gates = torch.ones(len(gates.roots), device=images.device, requires_grad=True)
        logits = on_batch(net, images[chunk], gates.weights(open_gates))
        (found,) = torch.autograd.grad(F.cross_entropy(logits, truth[chunk], reduction="sum"), open_gates)
        total += found.abs()
    for places in gates.layers:
        at = places.to(total.device)
        total[at] = total[at] / total[at].max().clamp_min(1e-12)
    return total


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)), the mean over rows."""
    return F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)

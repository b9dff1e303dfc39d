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
from graftery.cloning.stages import Stages
from graftery.errors import Misfit
from graftery.learning.pace import Pace
from graftery.module import ModuleFile
from graftery.module.build import buffer_names
from graftery.nn.layout import laid_out, placed
from graftery.nn.pieces import in_pieces
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
        gates, scores: by which the channels were chosen.
    """

    file: ModuleFile
    whole: ModuleFile
    gates: Gates
    scores: Tensor

    @property
    def kept(self) -> dict[str, tuple[int, int]]:
        """How many units stayed, and of how many, by the weight of their layer."""
        return self.gates.told()


@dataclass(frozen=True)
class Gates:
    """A gate for each unit of a source that may go.

    Args:
        roots: of the units.
        layers: positions of each layer's units among them.
        keep: how many of each layer stay.
        needed: positions of units of which one each stays, whatever its score; by layer.
    """

    source: ModuleFile
    channels: Channels
    roots: tuple[int, ...]
    layers: tuple[Tensor, ...]
    keep: tuple[int, ...]
    needed: tuple[tuple[Tensor, ...], ...]

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
        needed = tuple(
            tuple(torch.tensor(sorted(at[root] for root in some)) for some in channels.never_empty(layer))
            for layer in layers
        )
        # A share such as .25 of 4 is 1, whatever its last bit says.
        keep = tuple(
            max(1, len(some), math.ceil(share * len(layer) - 1e-9)) for layer, some in zip(layers, needed, strict=True)
        )
        return cls(source, channels, tuple(roots), places, keep, needed)

    def hard(self, scores: Tensor) -> Tensor:
        """1 for the best of each layer, else 0; [U]. The gradient goes straight through to the scores."""
        chosen, ranks = torch.zeros_like(scores), scores.detach().clone()
        for some in (each.to(scores.device) for needed in self.needed for each in needed):
            ranks[some[ranks[some].argmax()]] = torch.inf
        for places, keep in zip(self.layers, self.keep, strict=True):
            at = places.to(scores.device)
            chosen[at[ranks[at].topk(keep).indices]] = 1.0
        return chosen + scores - scores.detach()

    def weights(self, gates: Tensor, layout: torch.memory_format = torch.contiguous_format) -> dict[str, Tensor]:
        """The source's weights as they are with these gates, by the names of the net's buffers, in a layout."""
        names = buffer_names(self.source.graph)
        moved = {name: placed(weight, gates.device, layout) for name, weight in self.source.weights.items()}
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


@dataclass(frozen=True)
class Wanted:
    """What gates have to keep: what S says of the local set's views, but for which of the other classes something is.

    Args:
        classes: indices of the wanted classes [k].
        x: [R, ...] views; `said`, S's collapsed logits of them [R, k + 1]; `truth`, the wanted class of wanted ones [R].
        local: the same, on the CPU.
        layout: of the views and the net's weights.
    """

    gates: Gates
    net: fx.GraphModule
    classes: Tensor
    x: Tensor
    said: Tensor
    truth: Tensor
    local: Local
    layout: torch.memory_format

    @classmethod
    def of(cls, gates: Gates, wanted: Sequence[int], local: Local, device: torch.device) -> Wanted:
        classes = torch.tensor(list(wanted), device=device)
        net, x, layout = to_learn(gates.source, local.x, device)
        said = in_pieces(net, x, SALIENCY_IMAGES)
        truth = (local.y - local.known).clamp_min(0).to(device)
        return cls(gates, net, classes, x, collapsed(said, classes), truth, local, layout)

    def logits(self, gates: Tensor, rows: Tensor) -> Tensor:
        """Of the masked source, collapsed; batch norms on the batch's own statistics."""
        given = self.gates.weights(gates, self.layout)
        return collapsed(on_batch(self.net, self.x[rows], given), self.classes)

    def losses(self, gates: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """`kept` and `wanted`. Args: `rows`, the first half of wanted images."""
        logits, shown = self.logits(gates, rows), slice(0, len(rows) // 2)
        return {
            "kept": divergence(self.said[rows], logits),
            "wanted": F.cross_entropy(logits[shown], self.truth[rows][shown]),
        }


def localize(
    source: ModuleFile,
    wanted: Sequence[int],
    local: Local,
    *,
    recipe: CloneRecipe,
    stages: Stages,
    device: torch.device,
) -> Localized:
    """Find the channels that the wanted classes need, and take the others out.

    Math: over scores s, the mean of KL(c(S(x)) || c(S_g(x))), half of the images wanted and half original, + CE(c(S_g(x)), y) of
    the wanted ones; g = top of s in each layer; c as in `collapsed`; batch norms on the batch's own statistics.

    Args:
        source: S, a whole net with a linear end (`with_linear_end`); it does not change.
        wanted: indices of its classes.
        local: views of the local set. What S says of the original images tells what the wanted classes are not.
        stages: this is one.

    Raises:
        Misfit: `localization_failed`.
        TrainingFailed: `diverged`.
    """
    gates = Gates.of(source, recipe.keep)
    if recipe.keep == 1 or not gates.roots:
        return part_of(gates, torch.ones(len(gates.roots)), wanted, local, recipe)
    wish = Wanted.of(gates, wanted, local, device)
    scores, draw = _saliency(wish).requires_grad_(), Balanced.of(local, recipe.batch, recipe.seed)

    def terms(step: int) -> Mapping[str, Tensor]:
        return wish.losses(gates.hard(scores), draw("localize", step).to(device))

    pace = Pace(recipe.localization_steps, recipe.localization_learning_rate)
    stages.learn("localize", {"scores": scores}, terms, pace)
    return part_of(gates, scores.detach(), wanted, local, recipe)


def to_learn(file: ModuleFile, x: Tensor, device: torch.device) -> tuple[fx.GraphModule, Tensor, torch.memory_format]:
    """A net and images [n, ...] on the device, in the layout that is returned too: the one that is fastest there."""
    net, few = file.net().to(device), x[:2].to(device)
    layout = laid_out([net], lambda lie: on_batch(net, placed(few, device, lie), {}))
    return net, placed(x, device, layout), layout


def part_of(gates: Gates, scores: Tensor, wanted: Sequence[int], local: Local, recipe: CloneRecipe) -> Localized:
    """The source without the units of low scores [U]."""
    whole = gates.source if recipe.keep == 1 else restated(gates.cut(scores, None), local, recipe)
    return Localized(sliced(whole, Channels.of(whole), (), wanted), whole, gates, scores)


def restated(file: ModuleFile, local: Local, recipe: CloneRecipe) -> ModuleFile:
    """A masked source with the batch norms' statistics of the local set, half of it wanted images."""
    return reestimated(file, local.x[statistics_rows(local, recipe)])


def statistics_rows(local: Local, recipe: CloneRecipe) -> Tensor:
    """Of the images that batch norms get their statistics of."""
    return Balanced.of(local, STATISTICS_IMAGES, recipe.seed)("statistics", 0)


def collapsed(logits: Tensor, wanted: Tensor) -> Tensor:
    """The wanted classes' logits, and one for all others together: which of them it is, a clone need not know.

    Math: [y_wanted, log sum exp of the rest]; as probabilities, those of the others are added.

    Args:
        logits: [N, K].
        wanted: int64 [k].

    Returns:
        [N, k + 1]; [N, K] in the order of `wanted` where no class is left.
    """
    others = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    others[wanted] = False
    ours = logits[:, wanted]
    return torch.cat([ours, logits[:, others].logsumexp(1, keepdim=True)], 1) if bool(others.any()) else ours


def _saliency(wish: Wanted) -> Tensor:
    """|dCE/dg| at g = 1, [U], relative to the greatest of its layer: how much a unit means to the wanted classes."""
    device, units = wish.x.device, len(wish.gates.roots)
    rows = wish.local.wanted
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:SALIENCY_IMAGES]].to(device)
    total = torch.zeros(units, device=device)
    for chunk in _chunks(rows):
        opened = torch.ones(units, device=device, requires_grad=True)
        loss = F.cross_entropy(wish.logits(opened, chunk), wish.truth[chunk], reduction="sum")
        (found,) = torch.autograd.grad(loss, opened)
        total += found.abs()
    for places in wish.gates.layers:
        at = places.to(device)
        total[at] = total[at] / total[at].max().clamp_min(1e-12)
    return total


def _chunks(rows: Tensor) -> list[Tensor]:
    """32 rows each; never one alone, as batch norms on vectors take no batch of one."""
    chunks = list(torch.split(rows, 32))
    if len(chunks) > 1 and len(chunks[-1]) == 1:
        chunks[-2:] = [torch.cat(chunks[-2:])]
    return chunks


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)), the mean over rows."""
    return F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)

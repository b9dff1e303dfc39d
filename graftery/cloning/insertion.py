"""Joining a clone to a target: what stands before it, what its classifier gets, and how both are learned.

    z = target up to the position     h = the target's last features     old = the target's logits
    new = s ((w + u) clone(A z) + b_S) + b + V h

Shapes: N batch, K the target's classes, k the clone's, D' its last features, D the target's.
Source: Ye et al. 2023, insertion; the form of the classifier's rows and of A are reconstructed, A's start is ours
(docs/methods/cloning.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from graftery.cloning.local import UNKNOWN, Balanced, Local
from graftery.cloning.slicing import end_weights
from graftery.cloning.stages import Stages
from graftery.data.streams import generator
from graftery.learning.loop import Phase
from graftery.learning.pace import Pace
from graftery.module import ModuleFile, trace
from graftery.module.build import buffer_names
from graftery.module.check import CLONE_OLD
from graftery.module.joining import join
from graftery.nn.adapters import Adapter, Shape, alike
from graftery.nn.crossings import crossing
from graftery.nn.layers import convolution, linear
from graftery.nn.statistics import on_batch
from graftery.spec.manifest import OutputMeaning
from graftery.spec.recipes import AdapterRecipe, CloneRecipe

RIDGE = 1e-2
"""Of the first A, relative to the mean variance of z's channels."""
FIT_ROWS = 20_000
"""Positions that the first A is fitted to, at most."""


@dataclass(frozen=True)
class Seen:
    """What the frozen nets make of the local set, once for all steps.

    Args:
        z: [R, ...] the target's features at the position.
        last: [R, D].
        old: [R, K].
        features: [R, ...] the masked source's at its own layer.
        y: [R] the target's classes from 0, then the wanted ones; -1 for noise.
        shape: of z without the batch, None where the target takes any size.
    """

    z: Tensor
    last: Tensor
    old: Tensor
    features: Tensor
    y: Tensor
    shape: Shape

    @property
    def known(self) -> int:
        return self.old.shape[1]


class Extension(nn.Module):
    """What is learned: A, s, b, u and V; the clone is frozen."""

    def __init__(self, clone: ModuleFile, adapter: nn.Module, width: int, device: torch.device) -> None:
        super().__init__()
        self.adapter = adapter.to(device)
        self.net = clone.net().to(device)
        weight, bias = end_weights(clone)
        names = buffer_names(clone.graph)
        self.weight_name, self.bias_name = names[weight], names[bias]
        classes, features = clone.weights[weight].shape
        self.scale = nn.Parameter(torch.ones(classes, device=device))
        self.shift = nn.Parameter(torch.zeros(classes, device=device))
        self.rows = nn.Parameter(torch.zeros(classes, features, device=device))
        self.old = nn.Parameter(torch.zeros(classes, width, device=device))

    @property
    def learned(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.named_parameters() if not name.startswith("net.")}

    def end(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The clone's last weight and bias as they are now, by the names of its buffers. Args: `weights`, instead of its own."""
        buffers = dict(self.net.named_buffers()) | dict(weights or {})
        weight = self.scale[:, None] * (buffers[self.weight_name] + self.rows)
        return {self.weight_name: weight, self.bias_name: self.scale * buffers[self.bias_name] + self.shift}

    def forward(self, z: Tensor, last: Tensor, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The new logits [N, k], and what goes into the clone.

        Args:
            weights: instead of the clone's own, by the names of its buffers; its batch norms then stand on the batch.
        """
        given = self.adapter(z)
        if weights is None:
            logits = functional_call(self.net, self.end(), (given,))
        else:
            logits = on_batch(self.net, given, {**weights, **self.end(weights)})
        return logits + last @ self.old.T, given


def insertion_adapter(seen: Seen, recipe: CloneRecipe) -> nn.Module:
    """A: one 1x1 convolution or linear layer from the target's features to the clone's input, ReLU where that is never negative.

    Where both are of one kind, it begins as the least-squares map; else near the identity.
    """
    source = seen.shape
    target: Shape = tuple(seen.features.shape[1:])
    shape = AdapterRecipe(layers=1, kernel=1, final_relu=bool((seen.features >= 0).all()))
    random = generator(recipe.seed, "clone adapter")
    if not alike(source, target):
        return crossing(source, target, shape, random)
    width, wanted = _width(source), _width(target)
    layer = convolution(width, wanted, 1, shape, random) if len(source) == 3 else linear(width, wanted, shape, random)
    size = target[1:] if len(source) == 3 and source[1:] != target[1:] else None
    _fit(layer, seen)
    return Adapter([layer], final_relu=bool(shape.final_relu), size=size)  # type: ignore[arg-type]


def _width(shape: Shape) -> int:
    return int((shape[0] if len(shape) == 3 else shape[-1]) or 0)


def _fit(layer: nn.Module, seen: Seen) -> None:
    """Ridge regression from z to the clone's input, position by position."""
    z = seen.z
    if z.ndim == 4 and z.shape[2:] != seen.features.shape[2:]:
        z = F.interpolate(z, size=seen.features.shape[2:], mode="bilinear", align_corners=False)
    x, y = _rows(z), _rows(seen.features)
    if len(x) > FIT_ROWS:
        at = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:FIT_ROWS].to(x.device)
        x, y = x[at], y[at]
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    found = torch.linalg.solve(gram + ridge * torch.eye(len(gram), device=gram.device), x.T @ y).T
    state = {"weight": found.reshape(layer.state_dict()["weight"].shape), "bias": y_mean - found @ x_mean}
    layer.load_state_dict(state)


def _rows(value: Tensor) -> Tensor:
    """Positions of maps, tokens or vectors as rows, [rows, channels]."""
    return (value.movedim(1, -1) if value.ndim == 4 else value).flatten(0, -2)


def insert(clone: ModuleFile, seen: Seen, recipe: CloneRecipe, stages: Stages, phase: Phase) -> Extension:
    """Learn what joins the clone to the target.

    Math: CE over old and new logits, half of each batch wanted, half original images; on noise, the target's own answer
    instead of a label; + feature_weight |A z - f|^2 / |f|^2.

    Args:
        clone: behind its origin, with a linear end of k rows.
        seen: of the local set's views.
        stages: this is one, called `phase`.

    Raises:
        TrainingFailed: `diverged`.
    """
    made = Extension(clone, insertion_adapter(seen, recipe), seen.last.shape[1], seen.z.device)
    draw = Balanced.of(Local(seen.z, seen.y.cpu(), seen.known), recipe.batch, recipe.seed)

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = draw("insert", step).to(seen.y.device)
        new, given = made(seen.z[rows], seen.last[rows])
        return {
            "classes": class_loss(seen.old[rows], new, seen.y[rows]),
            "features": recipe.feature_weight * mismatch(given, seen.features[rows]),
        }

    learned = made.learned
    optimiser = torch.optim.AdamW(learned.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    stages.learn(phase, learned, terms, Pace(recipe.steps, recipe.learning_rate), optimiser)
    return made


def mismatch(ours: Tensor, theirs: Tensor) -> Tensor:
    """|ours - theirs|^2 / |theirs|^2, over all rows together."""
    return ((ours - theirs) ** 2).mean() / (theirs**2).mean().clamp_min(1e-12)


def class_loss(old: Tensor, new: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of old and new logits together; where y is -1, against what the target itself says.

    Args:
        old: [N, K], of the target; no gradient.
        new: [N, k].
        y: int64 [N].
    """
    log_p = torch.cat([old, new], 1).log_softmax(1)
    told = F.one_hot(y.clamp_min(0), log_p.shape[1]).to(log_p.dtype)
    asked = F.pad(old.softmax(1), (0, new.shape[1]))
    wanted = torch.where((y == UNKNOWN)[:, None], asked, told)
    return -(wanted * log_p).sum(1).mean()


def as_clone(extension: Extension, clone: ModuleFile, seen: Seen) -> ModuleFile:
    """A, then the clone with what its rows became, as one file; `clone.old` beside it. The manifest is still that of a net."""
    adapter = extension.adapter.cpu().eval()
    before = trace(adapter, seen.z[:2].cpu(), kind="adapter", outputs={"features": OutputMeaning(semantics="feature")})
    weight, bias = end_weights(clone)
    end = {name: value.detach().cpu() for name, value in extension.end().items()}
    folded = {weight: end[extension.weight_name], bias: end[extension.bias_name]}
    after = replace(clone, weights={**clone.weights, **folded})
    made = join({"adapter": before, "part": after})
    return replace(made, extras={**made.extras, CLONE_OLD: extension.old.detach().cpu()})

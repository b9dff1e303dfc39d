"""Joining a clone to a target: what stands before it, what its classifier gets, and how both are learned.

    z = target up to the position     h = the target's last features     old = the target's logits
    new = s ((w + u) clone(A z) + b_S) + b + V h

Shapes: N batch, R rows, K the target's classes, k the clone's, D' its last features, D the target's.
Source: Ye et al. 2023, insertion; the form of the classifier's rows and of A are reconstructed; A's start, the margin, mixed images and that
the clone learns on are ours (docs/methods/cloning.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from graftery.cloning.local import OF_SOURCE, UNKNOWN, Balanced, Local
from graftery.cloning.localization import statistics_rows
from graftery.cloning.mixing import Mixing
from graftery.cloning.slicing import end_weights
from graftery.cloning.stages import Stages
from graftery.cloning.taps import last_features, tapped
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
from graftery.nn.learnable import learnable
from graftery.nn.statistics import on_batch, reestimated
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
        y: [R] the target's classes from 0, then the wanted ones; -1 where the target is asked, -2 where the source is.
        shape: of z without the batch, None where the target takes any size.
        said: [R, k] the whole source's logits of the wanted classes; needed where it is asked.
        mixed: so many of the last rows are mixed images.
    """

    z: Tensor
    last: Tensor
    old: Tensor
    features: Tensor
    y: Tensor
    shape: Shape
    said: Tensor | None = None
    mixed: int = 0

    @property
    def known(self) -> int:
        return self.old.shape[1]

    @property
    def unwanted(self) -> Tensor:
        """[R] Where the wanted classes are not."""
        return (self.y < self.known) & (self.y != OF_SOURCE)


class Extension(nn.Module):
    """What is learned: A, s, b, u, V and, where they are opened, the clone's own weights.

    Args:
        clone: behind its origin; `clone` stays what the net is made of.
    """

    def __init__(self, clone: ModuleFile, adapter: nn.Module, width: int, device: torch.device) -> None:
        super().__init__()
        self.adapter = adapter.to(device)
        self.clone, self.net = clone, _with_features(clone).to(device)
        self.own: dict[str, Tensor] = {}
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
        """All of it; the clone's own weights are called `own.` and the buffer's name."""
        ours = {name: value for name, value in self.named_parameters() if not name.startswith("net.")}
        return ours | {f"own.{name}": value for name, value in self.own.items()}

    def open(self) -> None:
        """Let the clone's own weights learn, but for the last layer, whose rows do; its batch norms stand on the batch meanwhile."""
        names, last, buffers = buffer_names(self.clone.graph), end_weights(self.clone), dict(self.net.named_buffers())
        free = [names[name] for name in learnable(self.clone) if name not in last]
        self.own = {name: buffers[name].clone().requires_grad_() for name in free}

    def shut(self, z: Tensor) -> None:
        """Keep what the clone's own weights are now, and give its batch norms the statistics of these features of the target."""
        if not self.own:
            return
        with torch.no_grad():
            given = self.adapter(z).cpu()
        names = buffer_names(self.clone.graph)
        found = {name: self.own[at].detach().cpu() for name, at in names.items() if at in self.own}
        opened = replace(self.clone, weights={**self.clone.weights, **found})
        self.clone = reestimated(opened, given)
        self.net, self.own = _with_features(self.clone).to(z.device), {}

    def end(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The clone's last weight and bias as they are now, by the names of its buffers. Args: `weights`, instead of its own."""
        buffers = dict(self.net.named_buffers()) | dict(weights or {})
        weight = self.scale[:, None] * (buffers[self.weight_name] + self.rows)
        return {self.weight_name: weight, self.bias_name: self.scale * buffers[self.bias_name] + self.shift}

    def forward(
        self, z: Tensor, last: Tensor, weights: Mapping[str, Tensor] | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The new logits [N, k], and what goes into the clone.

        Args:
            weights: instead of the clone's own, by the names of its buffers; its batch norms then stand on the batch.
            mask: [N, D'] or [D'], which the clone's last features are multiplied by.
        """
        given, inside = self.adapter(z), self.own if weights is None else weights
        if inside or weights is not None:  # run step by step, a net of two outputs gives them as a tuple
            _, features = on_batch(self.net, given, inside)
        else:
            features = self.net(given)["features"]
        end = self.end(inside)
        seen = features if mask is None else features * mask
        return F.linear(seen, end[self.weight_name], end[self.bias_name]) + last @ self.old.T, given


def _with_features(clone: ModuleFile) -> fx.GraphModule:
    """The clone with its last features beside its logits; its buffers are called as in the clone itself."""
    ((_, logits),) = clone.graph.outputs.items()
    return tapped(clone, {"logits": logits, "features": last_features(clone)})


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
    """Learn what joins the clone to the target, and let the clone learn on in its new place.

    Math: CE over old and new logits, to which margins are added: new ones have to be lower by `margin_original` where no wanted class is
    shown, higher by `margin_wanted` where one is; half of each batch wanted, half original images, and mixed ones beside; where there is no
    label, the answer of the net that knows; + feature_weight |A z - f|^2 / |f|^2.

    Args:
        clone: behind its origin, with a linear end of k rows.
        seen: of the local set's views.
        stages: this is one, called `phase`.

    Raises:
        TrainingFailed: `diverged`.
    """
    made = Extension(clone, insertion_adapter(seen, recipe), seen.last.shape[1], seen.z.device)
    if recipe.learn_on:
        made.open()
    shown = Local(seen.z, seen.y.cpu(), seen.known, seen.mixed)
    draw = Mixing(Balanced.of(shown.labelled, recipe.batch, recipe.seed), shown, recipe.mixed)
    margins = torch.where(seen.unwanted, recipe.margin_original, -recipe.margin_wanted)[:, None]

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = draw("insert", step).to(seen.y.device)
        mask = dropped((len(rows), made.rows.shape[1]), recipe, step).to(seen.z.device)
        new, given = made(seen.z[rows], seen.last[rows], mask=mask)
        said = None if seen.said is None else seen.said[rows]
        return {
            "classes": class_loss(seen.old[rows], new + margins[rows], seen.y[rows], said),
            "features": recipe.feature_weight * mismatch(given, seen.features[rows]),
        }

    learned = made.learned
    optimiser = torch.optim.AdamW(learned.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.search_steps if phase == "search" else recipe.steps
    stages.learn(phase, learned, terms, Pace(steps, recipe.learning_rate), optimiser)
    made.shut(seen.z[statistics_rows(shown.labelled, recipe).to(seen.z.device)])
    return made


def dropped(shape: tuple[int, int], recipe: CloneRecipe, step: int) -> Tensor:
    """A mask of dropout: 0 with the recipe's chance, else what makes up for it."""
    kept = torch.rand(shape, generator=generator(recipe.seed, "insert.dropout", step)) >= recipe.dropout
    return kept / (1 - recipe.dropout)


def mismatch(ours: Tensor, theirs: Tensor) -> Tensor:
    """|ours - theirs|^2 / |theirs|^2, over all rows together."""
    return ((ours - theirs) ** 2).mean() / (theirs**2).mean().clamp_min(1e-12)


def class_loss(old: Tensor, new: Tensor, y: Tensor, said: Tensor | None = None) -> Tensor:
    """Cross-entropy of old and new logits together; where there is no label, against what the net says that knows.

    Args:
        old: [N, K], of the target; no gradient.
        new: [N, k].
        y: int64 [N]; -1: the target is asked, -2: the source.
        said: [N, k], the source's logits of the wanted classes.
    """
    known, more = old.shape[1], new.shape[1]
    log_p = torch.cat([old, new], 1).log_softmax(1)
    told = F.one_hot(y.clamp_min(0), known + more).to(log_p.dtype)
    told = torch.where((y == UNKNOWN)[:, None], F.pad(old.softmax(1), (0, more)), told)
    if said is not None:
        told = torch.where((y == OF_SOURCE)[:, None], F.pad(said.softmax(1), (known, 0)), told)
    return -(told * log_p).sum(1).mean()


def as_clone(extension: Extension, seen: Seen) -> ModuleFile:
    """A, then the clone with what its rows became, as one file; `clone.old` beside it. The manifest is still that of a net."""
    adapter = extension.adapter.cpu().eval()
    before = trace(adapter, seen.z[:2].cpu(), kind="adapter", outputs={"features": OutputMeaning(semantics="feature")})
    clone = extension.clone
    weight, bias = end_weights(clone)
    end = {name: value.detach().cpu() for name, value in extension.end().items()}
    folded = {weight: end[extension.weight_name], bias: end[extension.bias_name]}
    after = replace(clone, weights={**clone.weights, **folded})
    made = join({"adapter": before, "part": after})
    return replace(made, extras={**made.extras, CLONE_OLD: extension.old.detach().cpu()})

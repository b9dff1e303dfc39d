"""What cloning is measured against. Each gives the logits of images, [n, K + k], and how many parameters it adds.

All learn on the same local set, in the same views, in batches that are half wanted and half original images.

Shapes: N batch, K the target's classes, k the wanted ones, D features.
Source: LwF, Li and Hoiem 2016; EWC, Kirkpatrick et al. 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.cloning.dealing import Problem, train
from benchmarks.cloning.nets import Net, widened
from benchmarks.cloning.protocol import ENSEMBLE, EWC, FINE, HEAD, JOINT, LINEAR, LWF, STEPS, TEMPERATURE
from benchmarks.transplant.worlds.learning import Schedule
from graftery.cloning.local import Balanced, Local
from graftery.learning.loop import Loop, optimise
from graftery.learning.pace import Pace
from graftery.nn.pieces import in_pieces

CHUNK = 256
Classifier = Callable[[Tensor], Tensor]
Hold = Callable[[Tensor, Tensor], Tensor]
"""Rows of the views [N] and the net's logits of them [N, K + k] to what holds the old parameters."""


@dataclass(frozen=True)
class Setup:
    """How a baseline learns.

    Args:
        choice: `rate` and `strength`; the joint training has none.
        steps: of the protocol, unless it is to be quick.
        together: of the joint training.
    """

    choice: Mapping[str, float]
    together: Schedule
    steps: int = STEPS


@dataclass(frozen=True)
class Made:
    """A baseline that has learned, in evaluation mode."""

    classify: Classifier
    added: int


def learned(name: str, problem: Problem, setup: Setup) -> Made:
    """Learn a baseline by its row's name."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(problem.seed)
        return _ROWS[name](problem, setup)


def in_chunks(net: Classifier, x: Tensor) -> Tensor:
    return in_pieces(net, x, CHUNK)


def _fine_tuned(problem: Problem, setup: Setup) -> Made:
    return _all_parameters(problem, setup, lambda _net, _views: lambda _rows, logits: logits.new_zeros(()))


def _without_forgetting(problem: Problem, setup: Setup) -> Made:
    """LwF: the old logits, softened, are held to the target's own."""
    known = len(problem.target.known)

    def holding(_net: Net, views: Tensor) -> Hold:
        said = (in_chunks(problem.target.net, views) / TEMPERATURE).log_softmax(1)

        def hold(rows: Tensor, logits: Tensor) -> Tensor:
            now = (logits[:, :known] / TEMPERATURE).log_softmax(1)
            return TEMPERATURE**2 * F.kl_div(now, said[rows], reduction="batchmean", log_target=True)

        return hold

    return _all_parameters(problem, setup, holding)


def _consolidated(problem: Problem, setup: Setup) -> Made:
    """EWC: each parameter is held by how much the target's answers to its own images depend on it."""
    old = problem.target.net
    fisher = fisher_of(old, problem.local.x[_labels(problem) < len(problem.target.known)])
    was = {name: value.detach().clone() for name, value in old.named_parameters()}

    def holding(net: Net, _views: Tensor) -> Hold:
        def hold(_rows: Tensor, _logits: Tensor) -> Tensor:
            moved = [
                (fisher[name] * (value[: len(was[name])] - was[name]) ** 2).sum()
                for name, value in net.named_parameters()
            ]
            return torch.stack(moved).sum() / 2

        return hold

    return _all_parameters(problem, setup, holding)


def fisher_of(net: Net, x: Tensor) -> dict[str, Tensor]:
    """The diagonal of the Fisher information: the mean over images and the net's own predictions of squared gradients."""
    parameters = dict(net.named_parameters())
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for image in x:
        log_p = net(image[None]).log_softmax(1)[0]
        for each in log_p:
            found = torch.autograd.grad(each, list(parameters.values()), retain_graph=True)
            for (name, _), gradient in zip(parameters.items(), found, strict=True):
                total[name] += each.exp().detach() * gradient**2 / len(x)
    return total


def _all_parameters(problem: Problem, setup: Setup, holding: Callable[[Net, Tensor], Hold]) -> Made:
    """Fine-tune all of the target, its batch norms on the batches' statistics, with fresh rows for the wanted classes."""
    net = widened(problem.target.net, len(problem.wanted), problem.seed).train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    local, draw = _views(problem)
    x = local.x.to(memory_format=torch.channels_last)
    hold, strength = holding(net, local.x), setup.choice["strength"]

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = draw("tune", step)
        logits = net(x[rows])
        return {"classes": F.cross_entropy(logits, local.y[rows]), "hold": strength * hold(rows, logits)}

    _optimised(net, terms, setup)
    return Made(net.eval(), _added_rows(problem))


def _head(problem: Problem, setup: Setup) -> Made:
    net = widened(problem.target.net, len(problem.wanted), problem.seed).eval()
    _on_features(net.classifier, in_chunks(net.body, _views(problem)[0].x), problem, setup)
    return Made(net, _added_rows(problem))


def _linear(problem: Problem, setup: Setup) -> Made:
    """One linear layer on the last features of both nets, each feature brought to mean 0 and deviation 1 on the local set."""
    nets = [skill.net.body for skill in (problem.target, problem.source)]

    def both(x: Tensor) -> Tensor:
        return torch.cat([net(x) for net in nets], 1)

    features = in_chunks(both, _views(problem)[0].x)
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    classes = len(problem.target.known) + len(problem.wanted)
    layer = nn.Linear(features.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    _on_features(layer, (features - mean) / deviation, problem, setup)
    added = _size(problem.source.net.body) + _size(layer) - _size(problem.target.net.classifier)
    return Made(lambda x: layer((both(x) - mean) / deviation), added)


def _ensemble(problem: Problem, setup: Setup) -> Made:
    """The target's logits beside the source's wanted ones, under one scale and one shift."""
    old, new, count = problem.target.net, problem.source.net, len(problem.wanted)
    local, draw = _views(problem)
    said, wanted = in_chunks(old, local.x), in_chunks(new, local.x)[:, :count]
    scale, move = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = draw("tune", step)
        logits = torch.cat([said[rows], scale * wanted[rows] + move], 1)
        return {"classes": F.cross_entropy(logits, local.y[rows])}

    pace = Pace(setup.steps, setup.choice["rate"])
    optimise({"scale": scale, "shift": move}, terms, pace, Loop("train"))
    return Made(lambda x: torch.cat([old(x), scale * new(x)[:, :count] + move], 1), _size(new) + 2)


def _jointly(problem: Problem, setup: Setup) -> Made:
    """The target, trained on all images of original and wanted classes: what nobody has."""
    net = widened(problem.target.net, len(problem.wanted), problem.seed)
    x, y = problem.everything()
    draw = Balanced.of(Local(x, y, len(problem.target.known)), setup.together.batch, problem.seed)
    train(net, problem.world, x, y, setup.together, stream=f"together.{problem.seed}", balanced=draw)
    return Made(net, _added_rows(problem))


_ROWS: dict[str, Callable[[Problem, Setup], Made]] = {
    FINE: _fine_tuned,
    LWF: _without_forgetting,
    EWC: _consolidated,
    HEAD: _head,
    ENSEMBLE: _ensemble,
    LINEAR: _linear,
    JOINT: _jointly,
}


def _on_features(layer: nn.Linear, features: Tensor, problem: Problem, setup: Setup) -> None:
    """Learn a linear layer on features of the views [R, D]."""
    local, draw = _views(problem)

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = draw("tune", step)
        return {"classes": F.cross_entropy(layer(features[rows]), local.y[rows])}

    _optimised(layer, terms, setup)


def _optimised(net: nn.Module, terms: Callable[[int], Mapping[str, Tensor]], setup: Setup) -> None:
    parameters: dict[str, Tensor] = dict(net.named_parameters())
    optimise(parameters, terms, Pace(setup.steps, setup.choice["rate"]), Loop("train"))


def _views(problem: Problem) -> tuple[Local, Balanced]:
    local = Local(problem.local.x, _labels(problem), len(problem.target.known)).views(problem.recipe, "insert")
    return local, Balanced.of(local, problem.recipe.batch, problem.seed)


def _labels(problem: Problem) -> Tensor:
    assert problem.local.y is not None
    return problem.local.y.long()


def _added_rows(problem: Problem) -> int:
    return len(problem.wanted) * (problem.target.net.classifier.in_features + 1)


def _size(net: nn.Module) -> int:
    """Parameters and batch norms' statistics, as files count them."""
    return sum(value.numel() for value in net.state_dict().values() if value.is_floating_point())

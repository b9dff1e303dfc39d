"""Transfer learning with fewer steps: a network begun from compatible components, from others, or from nothing.

Protocol, fixed before anything was measured on test images:

- Two networks are trained on other images, of classes of which some are common: a and b. Compatible: jointly, with RP, DCC and IIW; else
  with no method.
- A third team has other images of b's classes and trains all of a network: SGD with Nesterov momentum at a constant rate, the recipe's batch and
  augmentation. It begins with the extractor of a under the head of b, compatible or of no group; with the extractor of a, of no
  group, under a new head (ordinary transfer learning); with b's own network, of no group, which has seen these classes whole; or
  with first weights.
- What has learned before goes on at a fifth of the recipe's rate. First weights, and a's extractor under a new head, go at that one and at the
  recipe's own.
- Measured after 0, 5, 10, ... steps on test images of b's classes. For each look, and for all alike, the batch norms of a copy are
  re-estimated on 512 of the third team's images: running statistics that begin at 0 and 1 would hold first weights back.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from examples.compat.nets import from_weights
from examples.compat.pairs import COMPATIBLE, pair
from examples.compat.worlds import Split, World
from graftery.compat import Member
from graftery.compat.losses import own
from graftery.data import SampleSet
from graftery.data.augment import augment
from graftery.data.streams import generator
from graftery.nn.pieces import in_pieces
from graftery.spec.recipes import CompatRecipe

NAME, TITLE = "transfer", "Transfer learning with fewer steps"
ROWS = tuple(str(step) for step in (0, 5, 10, 20, 50, 100, 200))
SLOWER = 0.2
SETTLED = 512
"""Images that batch norms are re-estimated on before each look."""
NOTHING = "from nothing"


def cells(world: World, seed: int, measured_on: Split = "test") -> Iterator[dict[str, Any]]:
    """A cell for each beginning: accuracies by the number of steps, in `ROWS`."""
    b = world.classes[3:]
    recipe = world.recipe.model_copy(update={"seed": seed})
    few, test = world.samples("train", b, share=2, seed=seed), world.samples(measured_on, b)
    slower = SLOWER * recipe.learning_rate
    for case, net, learned in _beginnings(world, seed):
        rates = {case: slower} if learned else {case: recipe.learning_rate, f"{case}, slower": slower}
        for name, rate in rates.items():
            yield {"case": name, "reached": tuned(deepcopy(net), few, test, recipe, rate)}


def remark(cases: dict[str, list[dict[str, Any]]]) -> str:
    """After how many steps each beginning is, in the mean, where the better of first weights is at the end."""
    means = {case: _means(cells) for case, cells in cases.items()}
    last = ROWS[-1]
    wanted = max(reached[last] for case, reached in means.items() if case.startswith(NOTHING))
    after = {case: next((row for row in ROWS if reached[row] >= wanted), None) for case, reached in means.items()}
    said = "; ".join(f"{case}: {'not reached' if step is None else step}" for case, step in after.items())
    return f"Steps of those looked at until the mean is at {100 * wanted:.1f}, where first weights are after {last}: {said}."


def tuned(net: nn.Module, few: SampleSet, test: SampleSet, recipe: CompatRecipe, rate: float) -> dict[str, float]:
    """Accuracy on test images by the number of steps."""
    assert few.y is not None
    sgd = torch.optim.SGD(net.parameters(), rate, momentum=recipe.momentum, nesterov=True)
    drawn = torch.randperm(len(few), generator=generator(recipe.seed, "examples.settled"))[:SETTLED]
    reached, last = {}, int(ROWS[-1])
    for step in range(last + 1):
        if str(step) in ROWS:
            reached[str(step)] = _right(settled(net, few.x[drawn]), test)
        rows = torch.randint(len(few), (recipe.batch,), generator=generator(recipe.seed, "examples.rows", step))
        x = augment(few.x[rows], recipe.augment, generator(recipe.seed, "examples.augment", step))
        sgd.zero_grad()
        own(net.train()(x), few.y[rows]).backward()
        sgd.step()
    return reached


def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """A copy whose batch norms have the statistics of these inputs."""
    copy = deepcopy(net).train()
    for layer in copy.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # one batch is all there is
    with torch.no_grad():
        copy(x)
    return copy.eval()


def _beginnings(world: World, seed: int) -> Iterator[tuple[str, nn.Module, bool]]:
    """Name, net, and whether all of it has learned before."""
    teams = {"a": world.classes[:7], "b": world.classes[3:]}
    count, common = len(teams["b"]), tuple(name for name in teams["a"] if name in teams["b"])
    first = world.plain.build(count, seed, "examples.transfer")
    a, b = pair(world, COMPATIBLE, teams, common, seed)
    yield "compatible components", _joined(world, a, b, count), True
    a, b = pair(world, (), teams, common, seed)
    assert b.net is not None
    yield "components of no group", _joined(world, a, b, count), True
    fresh = {name: value for name, value in first.state_dict().items() if not name.startswith(f"{world.plain.cut}.")}
    yield "a's extractor, new head", from_weights(world.plain, dict(a.extractor.weights) | fresh, count), False
    yield "b's own network", from_weights(world.plain, dict(b.net.weights), count), True
    yield NOTHING, first, False


def _joined(world: World, a: Member, b: Member, logits: int) -> nn.Module:
    """The extractor of a under the head of b, as a net that can be trained."""
    assert b.head is not None
    return from_weights(world.plain, dict(a.extractor.weights) | dict(b.head.weights), logits)


def _right(net: nn.Module, samples: SampleSet) -> float:
    assert samples.y is not None
    return float((in_pieces(net, samples.x, 256).argmax(1) == samples.y).double().mean())


def _means(cells: list[dict[str, Any]]) -> dict[str, float]:
    return {row: statistics.mean(cell["reached"][row] for cell in cells) for row in ROWS}

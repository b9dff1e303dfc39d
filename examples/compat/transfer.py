"""Transfer learning with fewer steps: a network begun from compatible components, from others, or from nothing.

Protocol, fixed before anything was measured on test images:

- Two networks are trained on other images, of classes of which some are common: a and b. Compatible: jointly, with RP, DCC and IIW; else
  with no method.
- A third team has other images of b's classes. It begins with the extractor of a under the head of b, or with first weights, and
  trains all of the network: SGD with Nesterov momentum at a constant rate, the recipe's batch and augmentation. The two that
  begin with components go at a fifth of the recipe's rate; first weights at that one and at the recipe's own.
- Measured after 0, 5, 10, ... steps on test images of b's classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from examples.compat.nets import from_weights
from examples.compat.worlds import Split, World
from graftery.compat import Member, Task, found, train
from graftery.compat.losses import own
from graftery.data import SampleSet
from graftery.data.augment import augment
from graftery.data.streams import generator
from graftery.spec.manifest import CompatMethod
from graftery.spec.recipes import CompatRecipe

NAME, TITLE = "transfer", "Transfer learning with fewer steps"
ROWS = tuple(str(step) for step in (0, 5, 10, 20, 50, 100, 200))
SLOWER = 0.2
METHODS: dict[str, tuple[CompatMethod, ...]] = {
    "compatible components": ("RP", "DCC", "IIW"),
    "components of no group": (),
}


def cells(world: World, seed: int, measured_on: Split = "test") -> Iterator[dict[str, Any]]:
    """A cell for each beginning: accuracies by the number of steps, in `ROWS`."""
    a, b = world.classes[:7], world.classes[3:]
    common = {name: (name,) for name in a if name in b}
    recipe = world.recipe.model_copy(update={"seed": seed})
    few, test = world.samples("train", b, share=2, seed=seed), world.samples(measured_on, b)
    slower = SLOWER * recipe.learning_rate
    tasks = [
        Task(name, classes, world.samples("train", classes, share, seed), world.plain)
        for share, (name, classes) in enumerate((("a", a), ("b", b)))
    ]
    for case, methods in METHODS.items():
        image, said = tasks[0].train.x[:2], world.preprocessing
        made = train(tasks, found(world.plain, methods, image, common=common, preprocessing=said, seed=seed), recipe)
        net = _joined(world, made.members["a"], made.members["b"], len(b))
        yield {"case": case, "reached": tuned(net, few, test, recipe, slower)}
    for case, rate in (("from nothing", recipe.learning_rate), ("from nothing, slower", slower)):
        net = world.plain.build(len(b), seed, "examples.transfer")
        yield {"case": case, "reached": tuned(net, few, test, recipe, rate)}


def tuned(net: nn.Module, few: SampleSet, test: SampleSet, recipe: CompatRecipe, rate: float) -> dict[str, float]:
    """Accuracy on test images by the number of steps."""
    assert few.y is not None
    sgd = torch.optim.SGD(net.parameters(), rate, momentum=recipe.momentum, nesterov=True)
    reached, last = {}, int(ROWS[-1])
    for step in range(last + 1):
        if str(step) in ROWS:
            reached[str(step)] = _right(net, test)
        rows = torch.randint(len(few), (recipe.batch,), generator=generator(recipe.seed, "examples.rows", step))
        x = augment(few.x[rows], recipe.augment, generator(recipe.seed, "examples.augment", step))
        sgd.zero_grad()
        own(net.train()(x), few.y[rows]).backward()
        sgd.step()
    return reached


def _joined(world: World, a: Member, b: Member, logits: int) -> nn.Module:
    """The extractor of a under the head of b, as a net that can be trained."""
    assert b.head is not None
    return from_weights(world.plain, dict(a.extractor.weights) | dict(b.head.weights), logits)


def _right(net: nn.Module, samples: SampleSet) -> float:
    assert samples.y is not None
    net.eval()
    with torch.no_grad():
        decided = torch.cat([net(chunk).argmax(1) for chunk in samples.x.split(256)])
    return float((decided == samples.y).double().mean())

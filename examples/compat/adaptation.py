"""Unsupervised domain adaptation: a head that was learned on plain images works on shifted ones, of which nobody has labels.

Protocol, fixed before anything was measured on test images:

- Source: labelled plain images. Target, for each shift: other images, shifted, without labels, and as a task without labels they have an
  extractor alone, which learns by RP.
- IIW+RP: the source's network and the extractors of all targets begin with the same weights and learn together, with one rotation head.
- RP, begun as the source: the source's network learns alone, with RP; its rotation head is the group's and frozen from then on. A target's
  extractor begins as the source's and learns against it, at a fifth of the recipe's rate, for as many epochs. Who adapts needs no image
  of the source.
- Measured on shifted test images: the source's head on the target's extractor, also with the head's batch norms re-estimated on the
  target's features.
- Beside them what needs no RP: a source that learned with no method, as it is, and with all its batch norms re-estimated on shifted images;
  and the two sources that the RP rows stand on, as they are.
- Test images of all classes; mean and standard deviation over seeds, which are of shares of images, weights and draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from examples.compat.nets import from_weights
from examples.compat.shifts import SHIFTS
from examples.compat.worlds import Split, World
from graftery.compat import Design, Member, Task, found, reestimated, train
from graftery.compat.recombination import accuracy, features
from graftery.data import SampleSet
from graftery.module import ModuleFile
from graftery.spec.manifest import CompatMethod

NAME, TITLE = "adaptation", "Unsupervised domain adaptation"
JOINT, BEGUN = "IIW+RP", "RP, begun as the source"
RESTATED = ", head re-estimated"
ALONE = "source of "
ROWS = (
    "source alone",
    "source, re-estimated",
    ALONE + JOINT,
    JOINT,
    JOINT + RESTATED,
    ALONE + "RP",
    BEGUN,
    BEGUN + RESTATED,
    "plain images",
)
SLOWER = 0.2
"""Of the rate from the beginning: an extractor that goes on from trained weights."""


def cells(world: World, seed: int, measured_on: Split = "test") -> Iterator[dict[str, Any]]:
    """A cell for each shift: accuracies by row, in `ROWS`."""
    recipe = world.recipe.model_copy(update={"seed": seed})
    slower = recipe.model_copy(update={"learning_rate": SLOWER * recipe.learning_rate})
    labelled, plain = world.samples("train", world.classes, 0, seed), world.raw(measured_on, world.classes)
    source = Task("source", world.classes, labelled, world.plain, SampleSet(world.prepared(plain.x), plain.y))
    others = world.raw("train", world.classes, 1, seed).x
    images = {name: SampleSet(world.prepared(shift(others))) for name, shift in SHIFTS.items()}

    (bare,) = train([source], _founded(world, (), labelled, seed), recipe).members.values()
    together = [Task(name, (), each, world.plain) for name, each in images.items()]
    joint = train([source, *together], _founded(world, ("RP", "IIW"), labelled, seed), recipe).members
    alone = train([source], _founded(world, ("RP",), labelled, seed), recipe)
    first = alone.members["source"]
    begun = _beginning_as(world.plain, first)
    for name, shift in SHIFTS.items():
        test = SampleSet(world.prepared(shift(plain.x)), plain.y)
        task = Task(name, (), images[name], begun)
        later = train([task], alone.group, slower, incremental=True).members[name]
        yield {
            "case": name,
            "reached": {
                **_of_source(bare, images[name], test),
                **{
                    ALONE + way: _under(of.extractor, of, test) for way, of in ((JOINT, joint["source"]), ("RP", first))
                },
                **_adapted(JOINT, joint[name].extractor, joint["source"], images[name], test),
                **_adapted(BEGUN, later.extractor, first, images[name], test),
            },
        }


def _founded(world: World, methods: tuple[CompatMethod, ...], samples: SampleSet, seed: int) -> ModuleFile:
    return found(world.plain, methods, samples.x[:2], preprocessing=world.preprocessing, seed=seed)


def _of_source(source: Member, images: SampleSet, test: SampleSet) -> dict[str, float | None]:
    """What a source with no method reaches on shifted images, and on plain ones."""
    assert source.net is not None and test.y is not None
    decided = features(reestimated(source.net, images.x), test.x).argmax(1)
    return {
        "source alone": _under(source.extractor, source, test),
        "source, re-estimated": float((decided == test.y).double().mean()),
        "plain images": source.accuracy,
    }


def _adapted(row: str, extractor: ModuleFile, source: Member, images: SampleSet, test: SampleSet) -> dict[str, float]:
    """What the source's head reaches on a target's extractor."""
    assert source.head is not None
    restated = reestimated(source.head, features(extractor, images.x))
    return {row: _under(extractor, source, test), row + RESTATED: accuracy(extractor, restated, test)}


def _under(extractor: ModuleFile, source: Member, test: SampleSet) -> float:
    """The source's head on an extractor."""
    assert source.head is not None
    return accuracy(extractor, source.head, test)


def _beginning_as(design: Design, source: Member) -> Design:
    """Networks of the design that begin with the weights of a trained one."""
    assert source.net is not None
    weights = dict(source.net.weights)

    def build(_: int) -> nn.Module:
        return from_weights(design, weights, len(weights["last.bias"]))

    return replace(design, net=build)

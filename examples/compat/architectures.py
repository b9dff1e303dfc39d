"""A classifier that is moved across extractor architectures: learned on plain convolutions, put on residual blocks, and back.

Protocol, fixed before anything was measured on test images:

- Two teams have other images of the same classes. The first trains a plain net, the second a residual one whose features have the same shape.
- Compatible: the first trains with RP and DCC; the second against the group that comes of it, incrementally. Half of the classes are
  common, so that DCC knows nothing of the others. IIW is not possible: the architectures differ.
- Without compatibility: the same two trainings, with no method.
- Measured: the first one's head on the second one's extractor and the other way round, on test images of all classes, normalised (100 is the
  head's own network, 0 chance); the same with the head's batch norms re-estimated on training images of the extractor's team.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from examples.compat.worlds import Split, World
from graftery.compat import Task, found, recombine, train
from graftery.spec.manifest import CompatMethod

NAME, TITLE = "architectures", "A classifier moved across extractor architectures"
ROWS = ("moved", "moved, re-estimated", "own network")
METHODS: dict[str, tuple[CompatMethod, ...]] = {"without compatibility": (), "RP and DCC": ("RP", "DCC")}


def cells(world: World, seed: int, measured_on: Split = "test") -> Iterator[dict[str, Any]]:
    """A cell for each method and direction: normalised accuracies by row, in `ROWS`."""
    classes = world.classes
    test = world.samples(measured_on, classes)
    tasks = [
        Task(name, classes, world.samples("train", classes, share, seed), design, test)
        for share, (name, design) in enumerate((("plain", world.plain), ("residual", world.residual)))
    ]
    common = {name: (name,) for name in classes[: len(classes) // 2]}
    recipe = world.recipe.model_copy(update={"seed": seed})
    image = tasks[0].train.x[:2]
    for method, methods in METHODS.items():
        group = found(world.plain, methods, image, common=common, preprocessing=world.preprocessing, seed=seed)
        first = train(tasks[:1], group, recipe)
        members = first.members | train(tasks[1:], first.group, recipe).members
        extractors = {name: member.extractor for name, member in members.items()}
        heads = {name: member.head for name, member in members.items() if member.head is not None}
        images = {task.name: task.train.x for task in tasks}
        tests = {task.name: test for task in tasks}
        plain = recombine(extractors, heads, tests)
        restated = recombine(extractors, heads, tests, statistics=images)
        for a, b in ((0, 1), (1, 0)):
            names = plain.names
            reached = {
                "moved": float(plain.raw[a, b]),
                "moved, re-estimated": float(restated.raw[a, b]),
                "own network": float(plain.raw[b, b]),
            }
            normalised = {
                "moved": float(plain.normalised[a, b]),
                "moved, re-estimated": float(restated.normalised[a, b]),
            }
            case = f"{method}: the {names[b]} net's head on the {names[a]} extractor"
            yield {"case": case, "reached": reached, "normalised": normalised}

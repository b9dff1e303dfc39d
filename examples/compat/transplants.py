"""A transplant within a group: how far an adapter gets beyond joining, and in how many steps.

Protocol, fixed before anything was measured on test images:

- Two teams have other images of the same classes and train a plain net each: in one group with RP, DCC and IIW, jointly, where half of the classes
  are common; or with no method.
- The first one's extractor is transplanted under the second one's head, with 0 labels and the default recipe; the first one's own head
  is the teacher. Within the group the adapter starts from the identity, which is the default there, or near it, which is the default elsewhere.
- Measured on test images of all classes: joined with no adapter, transplanted, and the first one's own network. `steps` is how long the
  adapter's last training was; it ends by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.writing import spread
from examples.compat.pairs import COMPATIBLE, pair
from examples.compat.worlds import Split, World
from graftery.compat import Member
from graftery.compat.recombination import accuracy
from graftery.data import SampleSet
from graftery.spec.recipes import ADAPTER_NOISE, TransplantRecipe
from graftery.transplant import compose, evaluate, transplant

NAME, TITLE = "transplants", "A transplant within a group"
ROWS = ("joined", "transplanted", "own network")


def cells(world: World, seed: int, measured_on: Split = "test") -> Iterator[dict[str, Any]]:
    """A cell for each start: accuracies by row, in `ROWS`, and the adapter's steps."""
    test = world.samples(measured_on, world.classes)
    near = {"adapter": {"noise": ADAPTER_NOISE}}
    teams, common = {"first": world.classes, "second": world.classes}, world.classes[: len(world.classes) // 2]
    alike, apart = (pair(world, methods, teams, common, seed) for methods in (COMPATIBLE, ()))
    yield {"case": "one group, from the identity", **_transplanted(alike, test, seed, {})}
    yield {"case": "one group, near the identity", **_transplanted(alike, test, seed, near)}
    yield {"case": "no group, near the identity", **_transplanted(apart, test, seed, {})}


def remark(cases: dict[str, list[dict[str, Any]]]) -> str:
    """How long each adapter learned."""
    said = "; ".join(f"{case}: {spread(cell['steps'] for cell in cells)}" for case, cells in cases.items())
    return f"Steps: {said}."


def _transplanted(members: tuple[Member, Member], test: SampleSet, seed: int, said: dict[str, Any]) -> dict[str, Any]:
    first, second = members
    assert first.head is not None and second.head is not None
    recipe = TransplantRecipe.model_validate({"seed": seed, **said})
    made = transplant(first.extractor, second.head, teacher_task=first.head, recipe=recipe)
    net, (output,) = compose(first.extractor, made.adapter, second.head), second.head.manifest.outputs.values()
    return {
        "steps": made.metrics["steps"],
        "reached": {
            "joined": accuracy(first.extractor, second.head, test),
            "transplanted": evaluate(net, test, output)["accuracy"],
            "own network": accuracy(first.extractor, first.head, test),
        },
    }

"""From what to what h maps. Where the sizes of gS's maps are free, to that at which gS's output is as large as gT's.

Shapes: N batch, C channels, H, W of a map; a shape here leaves the batch out.
Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import nn

from graftery.data.streams import generator
from graftery.errors import Misfit, ShapesRefused
from graftery.module import ModuleFile
from graftery.module.fakes import output_shapes
from graftery.nn.adapters import SAME, Shape, make_adapter
from graftery.spec.fit import output_of
from graftery.spec.plan import TEACHING
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant.given import Given

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Ends:
    """The two ends of h: features of f and gS's input. A size is None where it is free.

    Args:
        ratio: of a map's height and width, where they are free, from the first to the second.
    """

    source: Shape
    target: Shape
    ratio: tuple[Fraction, Fraction] = SAME

    @property
    def same(self) -> bool:
        """Whether gS takes f's features as they are."""
        fits = all(wanted is None or had == wanted for had, wanted in zip(self.source, self.target, strict=False))
        return fits and len(self.source) == len(self.target) and self.ratio == SAME

    def adapter(self, recipe: TransplantRecipe) -> nn.Module:
        """h at its start.

        Raises:
            Misfit: no adapter joins the two.
        """
        random = generator(recipe.seed, "adapter")
        return make_adapter(self.source, self.target, recipe.adapter, random, self.ratio)


def ends_of(given: Given, features: Sizes, recipe: TransplantRecipe) -> Ends:
    """What h maps from and to, for features [N, *features].

    Args:
        recipe: what it learns from; with no objectives named, from gT where there is one.

    Raises:
        Misfit: `shape_mismatch`; gS's output has not the size that gT's has, and no ratio of heights and widths makes it so.
    """
    ends, teacher = Ends(*given.adapter_shapes(features)), given.teacher_task
    if teacher is None or not (_free(given.task) or _free(teacher)):
        return ends  # the manifests have compared all sizes
    wanted = _wanted(given, teacher, features, recipe)
    if wanted is None:
        return ends
    came = _made(given, ends, features)
    if came == wanted:
        return ends
    resized = _resized(ends, features, came, wanted)
    if resized is None or _made(given, resized, features) != wanted:
        raise _misfit(features, came, wanted, "and no height and width of the task's input makes them the same")
    _check_larger(given, teacher, resized, features)
    return resized


def _wanted(given: Given, teacher: ModuleFile, features: Sizes, recipe: TransplantRecipe) -> Sizes | None:
    """The shape that gS's output is to have: gT's, if that teaches. None: whatever comes is right."""
    if not recipe.objectives or TEACHING & recipe.objectives.keys() or recipe.adapter.choose:
        return _output(teacher, features, _OWN)
    labels = None if given.samples is None else given.samples.y
    if labels is None:
        return None
    try:
        wanted = _output(teacher, features, _OWN)
    except Misfit:
        return None
    # Labels alone teach: of the size that gT would have made, or of that which gS makes by itself.
    return wanted if tuple(labels.shape[-2:]) == wanted[-2:] else None


def _free(task: ModuleFile) -> bool:
    return any(isinstance(size, str) for size in output_of(task.manifest).shape[1:])


def _resized(ends: Ends, features: Sizes, came: Sizes, wanted: Sizes) -> Ends | None:
    """The ends by the ratio of two outputs [K, H, W]; None where a size is not free, or is no whole number then."""
    before = _given_by(ends, features)
    if not len(came) == len(wanted) == len(before) == 3:
        return None
    ratio = Fraction(wanted[1], came[1]), Fraction(wanted[2], came[2])
    after = [side * part for side, part in zip(before[1:], ratio, strict=True)]
    if any(part != 1 and size is not None for part, size in zip(ratio, ends.target[1:], strict=True)):
        return None
    if any(side.denominator != 1 for side in after):
        return None
    if len(features) == 3:
        return replace(ends, ratio=ratio)
    # What is no map has one size only, and so has the map that is made of it.
    return replace(ends, target=(ends.target[0], *(int(side) for side in after)))


def _check_larger(given: Given, teacher: ModuleFile, ends: Ends, features: Sizes) -> None:
    """Refuse a ratio that is right for these features only, where f and gT take others: twice as high and wide."""
    if len(features) != 3:
        return
    stated = zip(output_of(given.category.manifest).shape[1:], teacher.manifest.input.shape[1:], strict=True)
    free = [all(isinstance(size, str) for size in both) for both in stated]
    larger = tuple(2 * size if each else size for size, each in zip(features, free, strict=True))
    came, wanted = _made(given, ends, larger), _output(teacher, larger, _OWN)
    if came != wanted:
        raise _misfit(larger, came, wanted, f"by the ratio that is right for {list(features)}")


def _made(given: Given, ends: Ends, features: Sizes) -> Sizes:
    """The shape of gS(h(x))."""
    return _output(given.task, _given_by(ends, features), "the task")


def _given_by(ends: Ends, features: Sizes) -> Sizes:
    """The shape of h(x), which no depth or kernel changes."""
    plain = TransplantRecipe.model_validate({"adapter": {"layers": 1, "kernel": 1}})
    with torch.no_grad():
        adapted = ends.adapter(plain).to("meta")(torch.empty(1, *features, device="meta"))
    return tuple(adapted.shape[1:])


def _output(task: ModuleFile, features: Sizes, whose: str) -> Sizes:
    """The shape of a task module's output.

    Raises:
        Misfit: it does not take these features.
    """
    try:
        (shape,) = output_shapes(task.graph, task.weights, (1, *features)).values()
    except ShapesRefused as error:
        raise Misfit(f"{whose} does not run on features {list(features)}: {error.message}", hint=_HINT) from None
    return shape[1:]


_OWN = "the teacher task"
_HINT = "give images of another height and width, or a task module whose output is as large as the teacher's"


def _misfit(features: Sizes, came: Sizes, wanted: Sizes, why: str) -> Misfit:
    return Misfit(
        f"for features {list(features)} the task's output is {list(came)}, the teacher task's is {list(wanted)}, {why}",
        hint=_HINT,
    )

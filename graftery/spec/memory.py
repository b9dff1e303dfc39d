"""How much memory of its device a job will take: an estimate from what is known before anything runs.

It is meant to be near the truth for large nets and above it for small ones: a job that is sent to a device without
that much memory would end there as `out_of_memory`, a job that is kept from one with more only waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from graftery.spec.cloning import CLONE_MIXES
from graftery.spec.manifest import Facts
from graftery.spec.recipes import AGREEMENT_IMAGES, AdapterRecipe, CloneRecipe, ConsolidateRecipe, TransplantRecipe

MIB = 1024**2
_VALUE_BYTES = 4
FIXED_BYTES = 512 * MIB
"""The libraries' own on a device, whatever the nets."""
# A value, its gradient, and Adam's two moments.
_TRAINED = 4
# Images that are optimised: each value on their way is kept for the gradient, which is of the same size.
_OPTIMISED = 2
# The gradient of a gradient keeps the values of the way forth, of the way back, and of the second way back.
_TWICE = 3
# Without gradients: the features, what the adapter makes of them, and a layer's input and output.
_PASSING = 4
# Features with the teacher's gradients, which are of their size; once in pieces, once joined.
_KEPT = 4
_DEFAULT_DEPTH = 3
# Images that go through a net at once while a skill is cloned.
_CHUNK = 256


def estimate(category: Facts, task: Facts, teacher_task: Facts | None, recipe: TransplantRecipe) -> int | None:
    """Bytes at the largest moment of a transplant, at the size of input that the modules were published with.

    Args:
        recipe: complete.
    Returns:
        None where a module was published before its values were counted.
    """
    tasks = [task, *([teacher_task] if teacher_task is not None else [])]
    nets = [category, *tasks]
    if any(net.elements_per_sample is None or net.largest_per_sample is None for net in nets):
        return None
    below, above = _sum(category), [_sum(net) for net in tasks]
    largest = max(net.largest_per_sample or 0 for net in tasks)
    moments = [
        recipe.batch * (below + _TWICE * sum(above)),
        AGREEMENT_IMAGES * _PASSING * largest,
        _OPTIMISED * _images(recipe) * (below + above[-1]),
    ]
    weights = sum(net.parameters for net in nets) + _TRAINED * _adapter(category, task, recipe.adapter)
    bank = min(recipe.bank.mebibytes * MIB, 2 * _VALUE_BYTES * recipe.bank.rows * largest) * _KEPT // 2
    return FIXED_BYTES + _VALUE_BYTES * (weights + max(moments)) + bank


def estimate_consolidation(
    cells: Sequence[tuple[Facts, Facts, Facts | None]], recipe: ConsolidateRecipe, inversion: Sequence[bool]
) -> int | None:
    """Bytes at the largest moment of a consolidation: a step has the graphs of all its cells.

    Args:
        cells: f, gS and gT of each.
        inversion: whether a cell's images are optimised.

    Returns:
        None where a module was published before its values were counted.
    """
    same = {name: getattr(recipe, name) for name in ("batch", "bank", "inversion")}
    found = []
    for (category, task, teacher_task), inverted in zip(cells, inversion, strict=True):
        sources = ("inversion", "noise") if inverted else ("noise",)
        own = TransplantRecipe().model_copy(update={**same, "sources": sources})
        found.append(estimate(category, task, teacher_task, own))
    return None if None in found else FIXED_BYTES + sum((each or 0) - FIXED_BYTES for each in found)


def estimate_clone(source: Sequence[Facts], target: Sequence[Facts], images: int, recipe: CloneRecipe) -> int | None:
    """Bytes at the largest moment of a cloning.

    Args:
        source, target: of the modules that each network consists of.
        images: in the local set.

    Returns:
        None where a module was published before its values were counted.
    """
    nets = [*source, *target]
    if any(net.elements_per_sample is None or net.largest_per_sample is None for net in nets):
        return None
    largest = max(net.largest_per_sample or 0 for net in nets)
    moments = [
        _OPTIMISED * (recipe.batch + recipe.mixed) * sum(_sum(net) for net in source),
        _CHUNK * _PASSING * largest,
    ]
    # What both nets make of every view and mixed image, at the position that is largest; once in pieces, once joined.
    shown = images * recipe.views
    kept = 2 * _OPTIMISED * (shown + (2 * min(CLONE_MIXES, shown) if recipe.mixed else 0)) * largest
    weights = sum(net.parameters for net in target) + _TRAINED * sum(net.parameters for net in source)
    return FIXED_BYTES + _VALUE_BYTES * (weights + max(moments) + kept)


def _sum(net: Facts) -> int:
    return net.elements_per_sample or 0


def _images(recipe: TransplantRecipe) -> int:
    """That are optimised at a time; where sources are left open, as if they were."""
    if recipe.sources and "inversion" not in recipe.sources:
        return 0
    return max(recipe.inversion.images, recipe.inversion.round_images if recipe.inversion.rounds else 0)


def _adapter(category: Facts, task: Facts, recipe: AdapterRecipe) -> int:
    """Parameters of the largest adapter that the recipe may make between these channels."""
    out = next(iter(category.outputs.values())).shape
    widest = max(_channels(out), _channels(task.input.shape))
    depth = max([recipe.layers or _DEFAULT_DEPTH, *recipe.choose])
    return depth * widest * widest * (recipe.kernel**2 if len(out) == 4 else 1)


def _channels(shape: tuple[int | str, ...]) -> int:
    sizes = [size for size in shape[1:2] if isinstance(size, int)]
    return sizes[0] if sizes else 1

"""Before a transplant: which adapter it needs, and how like f is to the categories that the task module serves already."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graftery.module import ModuleFile
from graftery.nn.adapters import Adapter, Side
from graftery.nn.crossings import Resize
from graftery.nn.freezing import freeze
from graftery.spec.recipes import (
    PRECHECK_IMAGES,
    PRECHECK_NEIGHBOURS,
    PRECHECK_POSITIONS,
    PRECHECK_VALUES,
    TransplantRecipe,
)
from graftery.transplant.fitting import ends_of
from graftery.transplant.given import Given
from graftery.transplant.likeness import Moments, comparable
from graftery.transplant.sources import Noise

_BATCH = 16


@dataclass(frozen=True)
class Neighbour:
    """A category module that feeds gS already, through its adapter if it has one."""

    name: str
    category: ModuleFile
    adapter: ModuleFile | None = None


@dataclass(frozen=True)
class Compared:
    """f beside one neighbour at gS's input; `Likeness` says what the numbers mean."""

    name: str
    residual: float | None
    cka: float | None
    reason: str | None


@dataclass(frozen=True)
class Precheck:
    """What is known before a transplant. None of it is an accuracy.

    Args:
        features: shape of f's features, without the batch.
        wanted: shape of gS's input; a free size is None.
        identity: gS takes f's features as they are, and makes an output as large as gT's of them.
        layers: the layers of the adapter that joins them, in words; of depths to choose from, the deepest.
        parameters: numbers that are learned.
        images: noise images that were compared.
        residual: the least of the neighbours' (see `Compared`); None where none was measured, and `reason` says why.
        cka: the greatest of the neighbours'.
    """

    features: tuple[int, ...]
    wanted: tuple[int | None, ...]
    identity: bool
    layers: tuple[str, ...]
    parameters: int
    images: int
    residual: float | None
    cka: float | None
    reason: str | None
    neighbours: tuple[Compared, ...]


@torch.no_grad()
def precheck(
    category: ModuleFile,
    task: ModuleFile,
    *,
    teacher_task: ModuleFile | None = None,
    neighbours: Sequence[Neighbour] = (),
    recipe: TransplantRecipe = TransplantRecipe(),  # noqa: B008  immutable
) -> Precheck:
    """Look at f and gS for seconds, without a label and without learning anything but a linear map.

    Args:
        category: f.
        task: gS.
        teacher_task: gT, which tells how large an output of free sizes is to be.
        neighbours: those that feed gS already; the first PRECHECK_NEIGHBOURS are compared with f, on the same noise.
        recipe: its adapter, noise and seed count; the same recipe gives the same numbers.

    Raises:
        Misfit: modules that no adapter joins, or whose outputs would be of different sizes.
        RecipeRefused: the size of f's input is free, and nothing tells it.

    Source: ours (docs/methods/transplant.md).
    """
    given = Given(category, task, teacher_task)
    net, shape = freeze(category.net()), given.input_shape()
    noise = Noise(shape, category.manifest.preprocessing, recipe)
    example: Tensor = net(noise(2, "example"))
    features = tuple(example.shape[1:])
    _, wanted = given.adapter_shapes(features)
    ends = ends_of(given, features, recipe)
    dense = given.meaning.semantics == "segmentation"
    layers = recipe.adapter.layers or max(recipe.adapter.choose, default=3 if dense else 1)
    planned = recipe.adapter.model_copy(update={"layers": layers, "choose": ()})
    adapter = ends.adapter(recipe.model_copy(update={"adapter": planned}))
    near = neighbours[:PRECHECK_NEIGHBOURS]
    images = _images(shape, features)
    compared = tuple(_compared(net, features, each, noise, images) for each in near)
    residuals = [each.residual for each in compared if each.residual is not None]
    ckas = [each.cka for each in compared if each.cka is not None]
    reasons = [each.reason for each in compared if each.reason is not None]
    return Precheck(
        features=features,
        wanted=wanted,
        identity=ends.same,
        layers=tuple(_words(adapter)),
        parameters=sum(parameter.numel() for parameter in adapter.parameters()),
        images=images if compared else 0,
        residual=min(residuals, default=None),
        cka=max(ckas, default=None),
        reason=None if residuals else (reasons or [NO_NEIGHBOUR])[0],
        neighbours=compared,
    )


NO_NEIGHBOUR = "no other category with the same input shape and preprocessing feeds this task yet"


def _images(shape: tuple[int, ...], features: tuple[int, ...]) -> int:
    """As many noise images as a map of f's channels wants rows, within what seconds allow; an even number of batches."""
    channels = features[0] if len(features) == 3 else features[-1]
    positions = {3: math.prod(features[1:]), 2: features[0]}.get(len(features), 1)
    wanted = 16 * channels // min(positions, PRECHECK_POSITIONS)
    least, most = PRECHECK_IMAGES
    count = max(least, min(wanted, most, PRECHECK_VALUES // math.prod(shape)))
    return -(-count // (2 * _BATCH)) * 2 * _BATCH


def _compared(net: nn.Module, features: tuple[int, ...], near: Neighbour, noise: Noise, images: int) -> Compared:
    reason = _incomparable(near, noise)
    if reason is not None:
        return Compared(near.name, None, None, reason)
    other = freeze(
        nn.Sequential(near.category.net(), near.adapter.net() if near.adapter is not None else nn.Identity())
    )
    moments = Moments()
    for test, x in _batches(noise, images):
        ours, theirs = net(x), other(x)
        reason = comparable(tuple(ours.shape[1:]), tuple(theirs.shape[1:]))
        if reason is not None:
            return Compared(near.name, None, None, reason)
        moments.add(ours, theirs, test=test)
    found = moments.likeness()
    return Compared(near.name, _rounded(found.residual), _rounded(found.cka), found.reason)


def _rounded(value: float | None) -> float | None:
    """Sums come out another way in their last bits where memory lies another way; nobody reads more than six digits."""
    return None if value is None else round(value, 6)


def _incomparable(near: Neighbour, noise: Noise) -> str | None:
    """Why the neighbour cannot be shown what f is shown; None where it can."""
    stated = near.category.manifest
    sizes = stated.input.shape[1:]
    if len(sizes) != len(noise.shape) or any(
        isinstance(a, int) and a != b for a, b in zip(sizes, noise.shape, strict=True)
    ):
        return f"its input is {list(sizes)}, not {list(noise.shape)}"
    return None if stated.preprocessing == noise.preprocessing else "its preprocessing is another"


def _batches(noise: Noise, images: int) -> Iterator[tuple[bool, Tensor]]:
    """Inputs from noise, every other batch to test on. They are made anew for each neighbour: memory stays flat."""
    for step in range(images // _BATCH):
        yield step % 2 == 1, noise(_BATCH, "precheck", step)


def _words(adapter: nn.Module) -> Iterator[str]:
    """The adapter's layers that learn, and its resize, in order."""
    for part in adapter.modules():
        if isinstance(part, nn.Conv2d):
            yield f"{part.kernel_size[0]}x{part.kernel_size[1]} convolution {part.in_channels} to {part.out_channels}"
        elif isinstance(part, nn.Linear):
            yield f"linear {part.in_features} to {part.out_features}"
        elif isinstance(part, Resize):
            yield _resize(part.size)
    if isinstance(adapter, Adapter) and adapter.size is not None:
        yield _resize(adapter.size)


def _resize(size: tuple[Side, Side]) -> str:
    height, width = size
    if isinstance(height, int) and isinstance(width, int):
        return f"resize to {height}x{width}"
    sides = {"height": height, "width": width}
    said = (f"{name} {'to' if isinstance(side, int) else 'by'} {side}" for name, side in sides.items())
    return f"resize {' and '.join(said)}"

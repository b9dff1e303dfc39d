"""Whole nets that tell digits apart, in four families, and the few images that a skill is cloned with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from examples import digits
from graftery.data import SampleSet
from graftery.data.augment import shift
from graftery.module import ModuleFile, trace
from graftery.spec.manifest import OutputMeaning
from tests.support.families import Family, category_module, task_module

TARGET, SOURCE = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
"""Digits that the target and the source know."""
STEPS = 120


def images(split: digits.Split, known: Sequence[int]) -> SampleSet:
    """Images of these digits, labelled by their place among them."""
    x, y = digits.images(split)
    shown = torch.isin(y, torch.tensor(list(known)))
    return SampleSet(x[shown], torch.tensor([list(known).index(digit) for digit in y[shown].tolist()]))


def names(known: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"digit {digit}" for digit in known)


@cache
def raw(family: Family = "vgg", known: tuple[int, ...] = SOURCE, *, wide: bool = False) -> ModuleFile:
    """A net with its first weights: for what does not ask what a net can do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return untrained(_begun(family, known, wide=wide), known)


def _begun(family: Family, known: Sequence[int], *, wide: bool) -> nn.Module:
    return nn.Sequential(category_module(family, wide=wide), task_module(family, wide=wide, outputs=len(known)))


@cache
def net(family: Family = "vgg", known: tuple[int, ...] = SOURCE, *, wide: bool = False) -> ModuleFile:
    """A trained net."""
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        return _trained(family, known, wide=wide)


def _trained(family: Family, known: tuple[int, ...], *, wide: bool) -> ModuleFile:
    torch.manual_seed(7)
    made = _begun(family, known, wide=wide)
    shown = images("train", known)
    assert shown.y is not None
    adam = torch.optim.Adam(made.parameters(), 3e-3, weight_decay=1e-4)
    for _ in range(STEPS):
        rows = torch.randint(len(shown), (64,))
        logits = made(shift(shown.x[rows], torch.randint(-1, 2, (64, 2))))
        loss = F.cross_entropy(logits, shown.y[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
    return untrained(made.eval(), known)


def untrained(made: nn.Module, known: Sequence[int]) -> ModuleFile:
    """A net as it is, as a file."""
    meaning = {"digit": OutputMeaning(semantics="classification", class_names=names(known))}
    return trace(made.eval(), digits.images("train")[0][:3], outputs=meaning, preprocessing=digits.PREPROCESSING)


@cache
def local(wanted: int = 2, *, each: int = 40, original: int = 20) -> SampleSet:
    """`each` images of the first `wanted` digits of the source, `original` of each of the target's."""
    shown = images("train", (*TARGET, *SOURCE[:wanted]))
    assert shown.y is not None
    rows = [
        (shown.y == label).nonzero()[: original if label < len(TARGET) else each, 0]
        for label in range(len(TARGET) + wanted)
    ]
    return shown.take(torch.cat(rows))


def judged(wanted: int = 2) -> SampleSet:
    """Images to measure on."""
    return images("validation", (*TARGET, *SOURCE[:wanted]))

"""How well components recombine: every head on every feature extractor.

Shapes: n images, T networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.data import SampleSet
from graftery.errors import Misfit, SamplesRefused, refusing
from graftery.module import ModuleFile
from graftery.nn.pieces import in_pieces
from graftery.nn.statistics import reestimated
from graftery.spec.fit import check_join, fits, output_of, say
from graftery.spec.groups import check_one_group, normalised
from graftery.spec.manifest import TensorSpec

CHUNK = 256
"""Images that go through a net at once, at most."""
CHUNK_VALUES = 2**21
"""Numbers in them, at most: a few large images take the memory of many small ones."""


@dataclass(frozen=True)
class Matrix:
    """Accuracies of head b on extractor a, on b's images.

    Args:
        names: of the networks, in the order of rows and columns.
        raw: [T, T] from 0 to 1; row a is the extractor, column b the head. The diagonal are the networks themselves.
        chance: [T], of each head's images.
        counts: T, of each head's images.
    """

    names: tuple[str, ...]
    raw: Tensor
    chance: Tensor
    counts: tuple[int, ...]

    @property
    def normalised(self) -> Tensor:
        """[T, T]: 100 where a recombination is as good as the head's own network, 0 at chance, below 0 under it.

        Math: `graftery.spec.groups.normalised` of each entry; NaN where a head's own network is not above chance.
        """
        heads = list(zip(self.raw.diagonal().tolist(), self.chance.tolist(), self.counts, strict=True))
        found = [
            [normalised(reached, *head) for reached, head in zip(row, heads, strict=True)] for row in self.raw.tolist()
        ]
        rows = [[math.nan if value is None else value for value in row] for row in found]
        return torch.tensor(rows, dtype=torch.float64)

    @property
    def recombined(self) -> float:
        """The mean of `normalised` off its diagonal: one number for a set of networks; NaN where one of them is at chance."""
        apart = ~torch.eye(len(self.names), dtype=torch.bool)
        return float(self.normalised[apart].mean())


def recombine(
    extractors: Mapping[str, ModuleFile],
    heads: Mapping[str, ModuleFile],
    tests: Mapping[str, SampleSet],
    *,
    statistics: Mapping[str, Tensor] | None = None,
    force: bool = False,
) -> Matrix:
    """Measure every head on every extractor, joined directly.

    Args:
        extractors, heads, tests: by the name of the network; the images of `tests` were trained on by none of them.
        statistics: images [n, ...] by the name of the extractor's network: heads' batch norms stand on the features of
            these, a step of its own (`reestimated`); None: heads as they are.
        force: recombine networks that are not of one group, too.

    Raises:
        Misfit: `kind_mismatch`, `group_mismatch`, `shape_mismatch`, `preprocessing_mismatch`.
        SamplesRefused: `samples_missing`; `samples_invalid`, names that differ, labels that are not of the head's classes, one
            image to re-estimate on, or images that a net does not take. But for the last all is checked before anything is
            measured.

    Source: Gygli et al. 2021; the normalisation is ours.
    """
    names = tuple(extractors)
    _check(extractors, heads, tests, statistics, force=force)
    raw = torch.zeros(len(names), len(names), dtype=torch.float64)
    for row, a in enumerate(names):
        seen = {name: features(extractors[a], tests[name].x) for name in names}
        for column, b in enumerate(names):
            head = heads[b]
            if statistics is not None and a != b:
                head = reestimated(head, features(extractors[a], statistics[a]))
            raw[row, column] = _right(head, seen[b], tests[b])
    chance = torch.tensor([chance_of(tests[name]) for name in names], dtype=torch.float64)
    return Matrix(names, raw, chance, tuple(len(tests[name]) for name in names))


def _check(
    extractors: Mapping[str, ModuleFile],
    heads: Mapping[str, ModuleFile],
    tests: Mapping[str, SampleSet],
    statistics: Mapping[str, Tensor] | None,
    *,
    force: bool,
) -> None:
    names = list(extractors)
    if not names or set(names) != set(heads) or set(names) != set(tests):
        raise SamplesRefused(f"extractors, heads and tests are of {names}, {list(heads)}, {list(tests)}")
    if statistics is not None and not set(names) <= set(statistics):
        raise SamplesRefused(f"extractors are of {names}, images to re-estimate on of {list(statistics)}")
    for a, extractor in extractors.items():
        for b, head in heads.items():
            check_group(extractor, head, force=force)
            _check_images(f"{b}'s test images", tests[b].x, a, extractor)
        if statistics is not None:
            _check_images(f"{a}'s images to re-estimate on", statistics[a], a, extractor)
            if len(statistics[a]) < 2:
                raise SamplesRefused(
                    f"batch norms are re-estimated on two images at least, {a} has {len(statistics[a])}"
                )
    for name, head in heads.items():
        _check_classes(name, head, tests[name])


def _check_images(what: str, x: Tensor, name: str, extractor: ModuleFile) -> None:
    wanted = extractor.manifest.input
    if not fits(TensorSpec(dtype="float32", shape=("N", *x.shape[1:])), wanted):
        raise Misfit(f"{what} are {list(x.shape[1:])}, the extractor of {name} takes {say(wanted)}")


def _check_classes(name: str, head: ModuleFile, samples: SampleSet) -> None:
    output = output_of(head.manifest)
    classes = output.shape[-1]
    if len(output.shape) != 2 or not isinstance(classes, int):
        raise Misfit(f"the head of {name} gives {say(output)}: logits [N, K] are needed", code="semantics_mismatch")
    most = max(classes, 2) - 1
    if (seen := int(class_ids(samples).max())) > most:
        raise SamplesRefused(f"the head of {name} tells the classes 0 to {most}, its test images have the label {seen}")


def check_group(extractor: ModuleFile, head: ModuleFile, *, force: bool = False) -> None:
    """Refuse components that do not fit, or are not of one group.

    Args:
        force: let groups, preprocessing and meanings disagree. Shapes never may.

    Raises:
        Misfit: `group_mismatch`, `shape_mismatch`, `preprocessing_mismatch`.
    """
    check_join(extractor.manifest, head.manifest, with_adapter=False, force=force)
    check_one_group(extractor.manifest, head.manifest, force=force)


def features(extractor: ModuleFile, x: Tensor) -> Tensor:
    """f(x) [n, ...], without a graph."""
    return through(extractor.net(), x)


def accuracy(extractor: ModuleFile, head: ModuleFile, samples: SampleSet) -> float:
    """Share of the samples whose class h(f(x)) decides rightly."""
    return _right(head, features(extractor, samples.x), samples)


def chance_of(samples: SampleSet) -> float:
    """What deciding for the most frequent class would reach.

    Raises:
        SamplesRefused: `samples_missing`; `samples_invalid`, labels that are no class ids.
    """
    y = class_ids(samples)
    return float(torch.bincount(y).max()) / len(y)


def _right(head: ModuleFile, features: Tensor, samples: SampleSet) -> float:
    logits = through(head.net(), features)
    decided = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)
    return float((decided == class_ids(samples)).double().mean())


def through(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """net(x) [n, ...], without a graph, of so many rows at once that neither images nor what the net makes of them fill the memory.

    Raises:
        SamplesRefused: `samples_invalid`; inputs of a shape that the net does not take.
    """
    rows = max(1, min(CHUNK, CHUNK_VALUES // x[0].numel()))
    # A size that is free in the input may be one that another layer does not take.
    with refusing(lambda why: SamplesRefused(f"the net does not take inputs {list(x.shape[1:])}: {why}")):
        return in_pieces(net, x.float(), rows)


def class_ids(samples: SampleSet) -> Tensor:
    """The labels, int64 [n].

    Raises:
        SamplesRefused: `samples_missing`; `samples_invalid`, labels that are no class ids.
    """
    if samples.y is None:
        raise SamplesRefused("recombination is measured on labelled images", code="samples_missing")
    y = samples.y
    if y.ndim != 1 or bool((y.long() != y).any()) or int(y.min()) < 0:
        raise SamplesRefused(f"the labels are {y.dtype} {list(y.shape)}: class ids from 0 on are needed, [n]")
    return y.long()

"""How well components recombine: every head on every feature extractor.

Shapes: n images, T networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.data import SampleSet
from graftery.errors import SamplesRefused
from graftery.module import ModuleFile
from graftery.nn.statistics import reestimated
from graftery.spec.fit import check_join
from graftery.spec.groups import check_one_group, normalised

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
        Misfit: `group_mismatch`, `shape_mismatch`, `preprocessing_mismatch`.
        SamplesRefused: `samples_missing`.

    Source: Gygli et al. 2021; the normalisation is ours.
    """
    names = tuple(extractors)
    if set(names) != set(heads) or set(names) != set(tests):
        raise SamplesRefused(f"extractors, heads and tests are of {list(names)}, {list(heads)}, {list(tests)}")
    raw = torch.zeros(len(names), len(names), dtype=torch.float64)
    for row, a in enumerate(names):
        seen = {name: features(extractors[a], tests[name].x) for name in names}
        for column, b in enumerate(names):
            check_group(extractors[a], heads[b], force=force)
            head = heads[b]
            if statistics is not None and a != b:
                head = reestimated(head, features(extractors[a], statistics[a]))
            raw[row, column] = _right(head, seen[b], tests[b])
    chance = torch.tensor([chance_of(tests[name]) for name in names], dtype=torch.float64)
    return Matrix(names, raw, chance, tuple(len(tests[name]) for name in names))


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
    return _through(extractor, x)


def accuracy(extractor: ModuleFile, head: ModuleFile, samples: SampleSet) -> float:
    """Share of the samples whose class h(f(x)) decides rightly."""
    return _right(head, features(extractor, samples.x), samples)


def chance_of(samples: SampleSet) -> float:
    """What deciding for the most frequent class would reach."""
    y = _labels(samples)
    return float(torch.bincount(y).max()) / len(y)


def _right(head: ModuleFile, features: Tensor, samples: SampleSet) -> float:
    logits = _through(head, features)
    decided = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)
    return float((decided == _labels(samples)).double().mean())


def _through(file: ModuleFile, x: Tensor) -> Tensor:
    net = file.net()
    rows = max(1, min(CHUNK, CHUNK_VALUES // x[0].numel()))
    with torch.no_grad():
        return torch.cat([net(chunk) for chunk in torch.split(x.float(), rows)])


def _labels(samples: SampleSet) -> Tensor:
    if samples.y is None:
        raise SamplesRefused("recombination is measured on labelled images", code="samples_missing")
    return samples.y.long()

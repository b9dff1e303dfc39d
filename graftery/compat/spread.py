"""Matrices of the same networks, one for each seed, as their means and how far they lie apart.

Shapes: S seeds, T networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.compat.recombination import Matrix
from graftery.errors import SamplesRefused


@dataclass(frozen=True)
class Figures:
    """Of values of which some may not be there (NaN).

    Args:
        mean: of those that are; NaN where none is.
        deviation: their standard deviation, of a sample (n - 1); NaN for fewer than two.
        count: how many they are, int64.
    """

    mean: Tensor
    deviation: Tensor
    count: Tensor


@dataclass(frozen=True)
class Spread:
    """Of several matrices.

    Args:
        names: of the networks, in the order of rows and columns.
        seeds: S.
        raw, normalised: [T, T], as of `Matrix`.
        recombined: scalars, of each matrix's one number.
    """

    names: tuple[str, ...]
    seeds: int
    raw: Figures
    normalised: Figures
    recombined: Figures


def spread(matrices: Sequence[Matrix]) -> Spread:
    """Mean, standard deviation and count over matrices of the same networks, each of another seed.

    Where a head's own network is at chance, its matrix has no normalised figure (`Matrix.normalised`): the counts say over
    how many the others are.

    Raises:
        SamplesRefused: `samples_invalid`; none, or of other networks.
    """
    if not matrices or len({matrix.names for matrix in matrices}) > 1:
        raise SamplesRefused(f"a spread is over matrices of the same networks, not {[each.names for each in matrices]}")
    return Spread(
        matrices[0].names,
        len(matrices),
        _figures([matrix.raw for matrix in matrices]),
        _figures([matrix.normalised for matrix in matrices]),
        _figures([torch.tensor(matrix.recombined, dtype=torch.float64) for matrix in matrices]),
    )


def _figures(values: Sequence[Tensor]) -> Figures:
    stacked = torch.stack(list(values))
    there = ~stacked.isnan()
    count = there.sum(0)
    mean = stacked.nanmean(0)
    squares = torch.where(there, (stacked - mean) ** 2, 0.0).sum(0)
    deviation = torch.where(count > 1, (squares / (count - 1).clamp_min(1)).sqrt(), math.nan)
    return Figures(mean, deviation, count)

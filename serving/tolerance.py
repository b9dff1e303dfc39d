"""When a derived form is as good as the module itself."""

from __future__ import annotations

import numpy as np

from serving.tensors import Array

TOLERANCE = 1e-4
"""Of the greatest number of an output: what a derived form may differ by. Other orders of the same sums differ by 1e-6."""
BATCHES = (1, 2, 3, 17)
"""Sizes at which a form is compared before it is used."""


def distance(expected: Array, found: Array) -> float:
    """max|found - expected| / max|expected|; infinite where shapes, types or the places of NaN and Inf differ."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, found) else float("inf")
    finite = np.isfinite(expected)
    same_places = np.array_equal(np.isfinite(found), finite)
    if not same_places or not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(expected[finite]).max())
    difference = float(np.abs(found[finite].astype(np.float64) - expected[finite]).max())
    return difference / max(scale, 1e-12)

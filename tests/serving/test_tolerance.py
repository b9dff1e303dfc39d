"""When two outputs are the same for our purposes."""

from __future__ import annotations

import numpy as np
import pytest

from serving.tolerance import TOLERANCE, distance


def test_distance_is_relative_to_the_greatest_number() -> None:
    y = np.array([[100.0, 1.0]], np.float32)
    assert distance(y, y) == 0
    assert distance(y, y + np.float32(0.01)) == pytest.approx(1e-4, rel=0.01)
    assert distance(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32)) == 0
    assert distance(np.zeros((1, 2), np.float32), np.full((1, 2), 1e-3, np.float32)) > TOLERANCE


@pytest.mark.parametrize(
    "found",
    [
        np.zeros((2, 1), np.float32), np.zeros((1, 2), np.float64), np.array([[0, np.nan]], np.float32),
    ],
)  # fmt: skip
def test_another_shape_type_or_nan_is_infinitely_far(found: np.ndarray) -> None:
    assert distance(np.zeros((1, 2), np.float32), found) == np.inf


def test_nan_in_the_same_place_and_whole_numbers() -> None:
    y = np.array([[np.nan, 1, np.inf]], np.float32)
    assert distance(y, y.copy()) == 0
    assert distance(np.array([1, 2]), np.array([1, 2])) == 0
    assert distance(np.array([1, 2]), np.array([1, 3])) == np.inf
    assert distance(np.full(2, np.nan, np.float32), np.full(2, np.nan, np.float32)) == 0

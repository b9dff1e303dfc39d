"""Giving freed memory back to the machine, where the C library keeps it for later."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _trimmer() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where there is another C library."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return found


_TRIM = _trimmer()


def give_back() -> None:
    """Give freed memory back: what reading, rearranging or dropping the weights of a module left behind.

    glibc keeps what lies between pieces that are in use: with twenty modules that was as much as their weights.
    """
    if _TRIM is not None:
        _TRIM(0)

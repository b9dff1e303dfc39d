"""A device that has not enough memory, told as what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graftery.errors import TrainingFailed, lacks_memory


@contextmanager
def within_memory(hint: str) -> Iterator[None]:
    """Args: `hint`: what takes less.

    Raises:
        TrainingFailed: `out_of_memory`.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise TrainingFailed("the device ran out of memory", code="out_of_memory", hint=hint) from error

"""A coroutine that was begun, to see whether it has to wait at all."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Started(Generic[T]):
    """Runs a coroutine up to where it waits. Often it is over then: who would await it under a clock needs none.

    Await it, once, only if it is not over.
    """

    value: T
    """What it gave, once it is over."""

    def __init__(self, work: Awaitable[T]) -> None:
        self._steps, self._awaited = work.__await__(), None
        self.is_over = False
        self._go_on(partial(self._steps.send, None))

    def _go_on(self, step: partial[Any]) -> None:
        try:
            self._awaited = step()
        except StopIteration as done:
            self.is_over, self.value = True, done.value

    def __await__(self) -> Generator[Any, Any, T]:
        while not self.is_over:
            try:
                sent = yield self._awaited
            except BaseException as error:
                self._go_on(partial(self._steps.throw, error))
            else:
                self._go_on(partial(self._steps.send, sent))
        return self.value

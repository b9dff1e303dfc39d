"""What models take at heights and widths that their modules leave free: looked at once for each size, before anything is run.

A file was checked at the size of its probe and at one other; what it makes of any other may be far more. So it is run there on tensors
without data first, which takes milliseconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from graftery.errors import InferenceRefused, ModuleFileError, ShapesRefused, StoreError, Unavailable
from graftery.module.fakes import Work
from graftery.spec.limits import Limits
from registry.store import Store
from serving import parts
from serving.asking import Question
from serving.branches import Model
from serving.desk import Desk
from serving.timely import in_time

MOST_NETS = 64
"""Modules whose graphs are held, without their weights."""
MOST_SIZES = 10_000


@dataclass(frozen=True)
class Way:
    """From an input to outputs: modules by digest, one behind the other, and the input's sizes without the batch."""

    digests: tuple[str, ...]
    sizes: tuple[int, ...]


class Sizes:
    """Which sizes were looked at, and what came of it.

    Args:
        limits: what one sample may take.
        queue_rows: that may wait for it.
    """

    def __init__(self, store: Store, limits: Limits, queue_rows: int = 1024) -> None:
        self._store, self._limits, self._lock = store, limits, threading.Lock()
        self._desk = Desk(1, queue_rows, "wait for their heights and widths to be looked at")
        self._nets: OrderedDict[str, Work] = OrderedDict()
        self._found: OrderedDict[Way, ShapesRefused | None] = OrderedDict()

    async def settle(self, model: Model, question: Question) -> None:
        """Make sure that a question's size was looked at.

        Raises:
            InferenceRefused: as `check`.
            Unavailable: too many wait for it; `deadline_exceeded`.
        """
        ways = self.ways(model, question.wanted, question.x.shape[1:])
        if not self.known(ways):
            await in_time(self._desk.do(lambda: self.check(ways), len(question.x)), question.timeout_s)

    def ways(self, model: Model, wanted: Collection[str], sizes: tuple[int, ...]) -> list[Way]:
        """What is to be looked at before these outputs are made of an input of these sizes; nothing where the model has one size."""
        if -1 not in model.input.shape[1:]:
            return []
        chains = [
            (branch.task,) if branch.whole else (model.first(branch), branch.adapter, branch.task)
            for branch in model.answering(wanted)
        ]
        return [Way(tuple(digest for digest in chain if digest), sizes) for chain in dict.fromkeys(chains)]

    def known(self, ways: Collection[Way]) -> bool:
        """Whether all of them were looked at already.

        Raises:
            InferenceRefused: as `check` did.
        """
        found = [self._found.get(way, ...) for way in ways]
        for each in found:
            if isinstance(each, ShapesRefused):
                large = each.code == "work_too_large"
                code, hint = ("request_too_large", "send smaller ones") if large else (None, None)
                raise InferenceRefused(each.message, code=code, hint=hint)
        return ... not in found

    def check(self, ways: Collection[Way]) -> None:
        """Look at what was not looked at yet. It takes milliseconds to seconds: not for the event loop.

        Raises:
            InferenceRefused: `request_too_large`; the modules do not run on these sizes.
        """
        with self._lock:
            for way in ways:
                if way not in self._found:
                    with suppress(Unavailable, StoreError, ModuleFileError, OSError):  # told where the model is loaded
                        self._found[way] = self._look(way)
                    while len(self._found) > MOST_SIZES:
                        self._found.popitem(last=False)
        self.known(ways)

    def _look(self, way: Way) -> ShapesRefused | None:
        sizes = way.sizes
        for net in [self._net(digest) for digest in way.digests]:
            try:
                sizes = next(iter(net(sizes).values()))
            except ShapesRefused as error:
                return error
        return None

    def _net(self, digest: str) -> Work:
        if digest not in self._nets:
            file = parts.file_of(self._store, digest)
            self._nets[digest] = Work(file.graph, file.weights, self._limits)
        self._nets.move_to_end(digest)
        while len(self._nets) > MOST_NETS:
            self._nets.popitem(last=False)
        return self._nets[digest]

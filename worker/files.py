"""An order's files, as the child reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from graftery.data.samples import SampleSet
from graftery.learning import checkpoint
from graftery.learning.checkpoint import Checkpoint
from graftery.module import ModuleFile
from worker.reports import Order

_Made = TypeVar("_Made")

log = structlog.get_logger("graftery.worker")


def module(order: Order, role: str) -> ModuleFile:
    return ModuleFile.load(order.files[role], order.limits)


def module_or_none(order: Order, role: str) -> ModuleFile | None:
    return module(order, role) if role in order.files else None


def samples(order: Order, role: str) -> SampleSet | None:
    return SampleSet.load(order.files[role]) if role in order.files else None


def resumed(order: Order, make: Callable[[Checkpoint | None], _Made]) -> _Made:
    """What `make` gives from the order's last checkpoint.

    One that cannot be gone on from costs time, not the job: another version of this software may have written it.
    """
    if order.resume is None:
        return make(None)
    return checkpoint.resumed(
        Path(order.resume),
        make,
        lambda error: log.warning("checkpoint_not_taken", job=order.job, error=error.message),
    )

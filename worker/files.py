"""An order's files, as the child reads them."""

from __future__ import annotations

from graftery.data.samples import SampleSet
from graftery.module import ModuleFile
from worker.reports import Order


def module(order: Order, role: str) -> ModuleFile:
    return ModuleFile.load(order.files[role], order.limits)


def module_or_none(order: Order, role: str) -> ModuleFile | None:
    return module(order, role) if role in order.files else None


def samples(order: Order, role: str) -> SampleSet | None:
    return SampleSet.load(order.files[role]) if role in order.files else None

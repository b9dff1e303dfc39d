"""The nets of a transplant, frozen, and how they compose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from graftery.module import ModuleFile
from graftery.nn.freezing import freeze
from graftery.nn.pieces import in_pieces
from graftery.spec.fit import check_join


@dataclass(frozen=True)
class Nets:
    """f, gS and gT (None: not known), each a function of one tensor."""

    category: nn.Module
    task: nn.Module
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        for net in self.all:
            freeze(net)

    @property
    def all(self) -> list[nn.Module]:
        return [net for net in (self.category, self.task, self.teacher) if net is not None]

    def features(self, x: Tensor) -> Tensor:
        """f(x), without a graph."""
        return in_pieces(self.category, x)


class Composed(nn.Module):
    """gS(h(f(x))), or gS(f(x)) where there is no adapter. The parts are shared, not copied."""

    def __init__(self, category: nn.Module, adapter: nn.Module | None, task: nn.Module) -> None:
        super().__init__()
        self.category = category
        self.adapter = adapter
        self.task = task

    def forward(self, x: Tensor) -> Tensor:
        features = self.category(x)
        if self.adapter is not None:
            features = self.adapter(features)
        value: Tensor = self.task(features)
        return value


def compose(category: ModuleFile, adapter: ModuleFile | None, task: ModuleFile) -> nn.Module:
    """The composed network gS(h(f(x))), frozen: the reference path of its outputs.

    Raises:
        Misfit: `shape_mismatch`, `kind_mismatch`.
    """
    joint = adapter.manifest if adapter is not None else None
    check_join(category.manifest, task.manifest, adapter=joint, with_adapter=False, force=True)
    net = Composed(category.net(), adapter.net() if adapter is not None else None, task.net())
    return freeze(net)


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Attention through plain operators: the fused kernels have no double backward."""
    with sdpa_kernel([SDPBackend.MATH]):
        yield

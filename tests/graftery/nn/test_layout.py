from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.nn.layout import laid_out, lie_as, placed

CPU = torch.device("cpu")


def _last(value: torch.Tensor) -> bool:
    return value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


def test_what_runs_lies_channels_last() -> None:
    nets, told = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)], []
    assert laid_out(nets, told.append) == torch.channels_last
    assert told == [torch.channels_last]
    assert all(_last(net.weight) for net in nets)


def test_what_fails_so_stays_as_it_was() -> None:
    net, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    assert laid_out([net], lambda lie: net(placed(x, CPU, lie)).view(2, -1)) == torch.contiguous_format
    assert net.weight.is_contiguous()


def test_lack_of_memory_is_no_reason_to_lie_otherwise() -> None:
    def run(_lie: torch.memory_format) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        laid_out([nn.Conv2d(3, 4, 3)], run)


def test_only_maps_and_kernels_lie() -> None:
    maps, row = torch.randn(2, 3, 4, 4), torch.randn(2, 3)
    assert _last(placed(maps, CPU, torch.channels_last))
    assert placed(row, CPU, torch.channels_last) is row
    net = nn.Conv2d(3, 4, 3)
    assert _last(lie_as(net, placed(maps, CPU, torch.channels_last)).weight)  # type: ignore[arg-type]
    assert lie_as(nn.Conv2d(3, 4, 3), maps).weight.is_contiguous()  # type: ignore[operator, union-attr]

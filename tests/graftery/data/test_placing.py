from __future__ import annotations

import pytest
import torch

from graftery.data.placing import onto


def test_on_the_cpu_it_is_the_tensor_itself() -> None:
    x = torch.randn(3)
    assert onto(x, torch.device("cpu")) is x


def test_to_cuda_it_goes_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of torch, also where there is no CUDA."""
    asked: list[object] = []
    x = torch.randn(3)
    pinned = torch.randn(3)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda _: pinned)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, *args, **options: asked.append((self is pinned, args, options))
    )
    onto(x, torch.device("cuda:1"))
    assert asked == [(True, (torch.device("cuda:1"),), {"non_blocking": True})]

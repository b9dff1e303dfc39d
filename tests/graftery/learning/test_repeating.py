from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from graftery.learning.repeating import repeatable


def _state() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        cudnn.deterministic,
        cudnn.benchmark,
        cudnn.allow_tf32,
    )


@pytest.fixture(autouse=True)
def _high_precision() -> Iterator[None]:
    """Not torch's default, so that a setting that is not put back shows."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_cuda_repeats_its_bits_and_all_is_as_before_afterwards() -> None:
    before = _state()
    with pytest.raises(KeyError), repeatable(torch.device("cuda")):
        assert _state() == (True, "highest", True, False, False)
        raise KeyError
    assert _state() == before


def test_the_cpu_is_left_as_it_is() -> None:
    before = _state()
    with repeatable(torch.device("cpu")):
        assert _state() == before

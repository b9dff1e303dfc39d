"""What torch raises: a net's fault, or the device's."""

from __future__ import annotations

import pytest
import torch

from graftery.errors import SamplesRefused, lacks_memory, refusing

TOO_MUCH = 2**50
"""Bytes, more than any machine has."""


def _allocated() -> torch.Tensor:
    return torch.empty(TOO_MUCH, dtype=torch.uint8)


@pytest.mark.parametrize(
    "raised", [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")]
)
def test_a_lack_of_memory_is_known_whoever_tells_it(raised: Exception) -> None:
    assert lacks_memory(raised)
    with pytest.raises(RuntimeError) as caught:
        _allocated()
    assert lacks_memory(caught.value)


def test_other_errors_are_none() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not lacks_memory(caught.value)


def test_what_a_net_raises_becomes_a_refusal_with_its_first_line() -> None:
    says = r"^no: mat1 and mat2 shapes cannot be multiplied \(2x3 and 2x3\)$"
    with pytest.raises(SamplesRefused, match=says), refusing(lambda why: SamplesRefused(f"no: {why}")):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_a_lack_of_memory_is_nobodys_fault() -> None:
    with pytest.raises(RuntimeError, match="allocate memory"), refusing(SamplesRefused):
        _allocated()


def test_only_the_kinds_that_are_named_become_one() -> None:
    with pytest.raises(KeyError), refusing(SamplesRefused):
        {}["a"]
    with pytest.raises(SamplesRefused, match="'a'"), refusing(SamplesRefused, KeyError):
        {}["a"]

"""Where accuracy is lost: among the classes of a kind, or between the kinds."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.cloning.border import border

KNOWN = 2
Y = torch.tensor([0, 1, 2, 3])


def _logits(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows)


def test_classes_that_are_taken_for_another_of_their_kind_are_found_and_not_right_within() -> None:
    told = border(_logits((0, 9, 0, 0), (0, 9, 0, 0), (0, 0, 0, 9), (0, 0, 0, 9)), Y, KNOWN)
    assert told == {"wanted_found": 1.0, "original_found": 1.0, "wanted_within": 0.5, "original_within": 0.5}


def test_classes_that_the_other_kind_takes_are_right_within_and_not_found() -> None:
    told = border(_logits((1, 0, 9, 0), (0, 1, 0, 0), (9, 0, 1, 0), (9, 0, 0, 1)), Y, KNOWN)
    assert told == {"wanted_found": 0.0, "original_found": 0.5, "wanted_within": 1.0, "original_within": 1.0}


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4))
def test_what_is_right_is_found_and_right_within(seed: int, known: int, more: int) -> None:
    random = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.arange(known + more), torch.randint(known + more, (20,), generator=random)])
    logits = torch.randn(len(y), known + more, generator=random)
    told, right = border(logits, y, known), logits.argmax(1) == y
    for kind, of in (("original", y < known), ("wanted", y >= known)):
        share = right[of].float().mean().item()
        assert share <= min(told[f"{kind}_found"], told[f"{kind}_within"]) + 1e-6
        # Of those that are found, as many are wrong as are not right within, at most.
        assert share >= told[f"{kind}_found"] + told[f"{kind}_within"] - 1 - 1e-6

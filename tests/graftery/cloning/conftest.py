"""One thread: these nets are too small for more. A clone that many look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from graftery.cloning import Cloned, clone
from graftery.spec.recipes import CloneRecipe
from tests.support import skills

QUICK = CloneRecipe(positions=("0",), views=2, keep=0.25)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cloned() -> Cloned:
    """Digits 5 and 6 for a net that knows 0 to 4, with all that can be measured."""
    return clone(
        skills.net(),
        skills.net("vgg", skills.TARGET, wide=True),
        skills.local(2),
        skills.names((5, 6)),
        recipe=QUICK,
        evaluate_on=skills.judged(2),
        source_evaluate_on=skills.images("validation", skills.SOURCE),
    )

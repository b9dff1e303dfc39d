"""One thread: these nets are too small for more, and bits depend on the number of threads. One training that many look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from graftery.compat import Trained, found, train
from graftery.data import SampleSet
from graftery.module import ModuleFile
from graftery.spec.recipes import CompatRecipe
from tests.support.compatible import COMMON, DESIGN, A, B, samples, task


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def group() -> ModuleFile:
    """With all three methods and images to check members on, untrained."""
    kept = samples((3, 4, 5, 6), train=False, most=80)
    return found(DESIGN, ("RP", "DCC", "IIW"), kept.x, common=COMMON, check=SampleSet(kept.x, kept.y))


@pytest.fixture(scope="session")
def trained(group: ModuleFile) -> Trained:
    """Two networks, trained jointly against it."""
    return train([task("a", A), task("b", B)], group, CompatRecipe(epochs=5))

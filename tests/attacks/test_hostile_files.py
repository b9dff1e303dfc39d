"""Every file of tests/support/hostile.py is refused with its own code, at once and in little memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sympy  # noqa: F401  the first trace loads it: its time is not a file's

from graftery.errors import ModuleFileError
from graftery.module import verify
from graftery.module.protocol import warm_up
from graftery.spec.problems import PROBLEMS
from tests.support.hostile import HOSTILE
from tests.support.hostile_parts import good


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up()


@pytest.fixture
def _own_garbage() -> Iterator[None]:
    """The collector looks at what a test makes, and not again and again at all that the tests before left in this process."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_own_garbage")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused_with_its_code(name: str, tmp_path: Path) -> None:
    write, code = HOSTILE[name]
    path = tmp_path / "hostile.safetensors"
    write(path)
    start = time.thread_time()
    with pytest.raises(ModuleFileError) as caught:
        verify(path)
    assert caught.value.code == code, caught.value.message
    assert code in PROBLEMS
    assert time.thread_time() - start < 1.0


def test_good_file_that_the_hostile_ones_are_made_from_passes(tmp_path: Path) -> None:
    path = tmp_path / "good.safetensors"
    path.write_bytes(good())
    assert verify(path).layers == ("fc",)

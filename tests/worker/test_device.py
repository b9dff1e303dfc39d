from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from graftery.errors import GrafteryError
from worker.device import use


@pytest.fixture(autouse=True)
def _same_threads_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert use("auto", 0).type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert use("auto", 0).type == "cpu"


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(GrafteryError, match="cuda:99") as refusal:
        use("cuda:99", 0)
    assert refusal.value.code == "unavailable"


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(GrafteryError, match="toaster"):
        use("toaster", 0)


def test_threads_are_fixed() -> None:
    use("cpu", 2)
    assert torch.get_num_threads() == 2
    use("cpu", 0)
    assert torch.get_num_threads() == 2, "0 changes nothing"

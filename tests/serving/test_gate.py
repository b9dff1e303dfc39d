"""A door that refuses more than its capacity."""

from __future__ import annotations

import pytest

from graftery.errors import Unavailable
from serving.gate import Gate


def test_a_gate_lets_in_again_after_an_error() -> None:
    gate = Gate(1, "wait")
    for _ in range(2):
        with pytest.raises(KeyError), gate.entered():
            raise KeyError
    with gate.entered(), pytest.raises(Unavailable, match="1 requests wait already") as caught, gate.entered():
        pass
    assert caught.value.details["retry_after_s"] >= 1 and gate.inside == 0

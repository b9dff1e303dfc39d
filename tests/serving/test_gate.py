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
    with (
        gate.entered(),
        pytest.raises(Unavailable, match="1 rows wait already, the queue holds 1") as caught,
        gate.entered(),
    ):
        pass
    assert caught.value.details["retry_after_s"] >= 1 and gate.inside == 0


def test_a_gate_counts_rows_and_lets_one_in_whatever_he_brings() -> None:
    gate = Gate(8, "wait")
    with gate.entered(100):
        assert gate.inside == 100
    with gate.entered(6), gate.entered(2), pytest.raises(Unavailable), gate.entered():
        pass
    assert gate.inside == 0

from __future__ import annotations

from graftery.spec.cells import refusal
from graftery.spec.generic import Accept


def test_an_agreement_that_is_not_known_is_none() -> None:
    """Where it is asked. What is no classification has none, and is not asked."""
    unknown = {"agreement": {"kappa": None, "count": 512.0, "reason": "the teacher decides 100.0% alike"}}
    assert "not known: the teacher decides" in str(refusal(unknown, Accept()))
    assert refusal(unknown, Accept(agreement=None)) is None
    assert refusal({"agreement": None}, Accept()) is None
    assert refusal({"agreement": {"kappa": 0.2, "count": 512.0}}, Accept()) is None
    assert "0.10, below 0.2" in str(refusal({"agreement": {"kappa": 0.1, "count": 512.0}}, Accept()))


def test_what_was_measured_is_judged_by_that() -> None:
    measured = {
        "adapter": {"accuracy": 0.9},
        "teacher": {"accuracy": 0.94},
        "agreement": {"kappa": None, "reason": "x"},
    }
    assert refusal(measured, Accept()) is None
    assert "4.0 points below" in str(refusal(measured, Accept(within=3)))

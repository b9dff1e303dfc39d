"""One task or several in a request: what may be said, and how a refusal is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from graftery.spec.references import MAX_TASKS, of_task
from graftery.spec.wire import TransplantRequest
from graftery.spec.wording import wrong_fields

ASKED = {"name": "n", "category": "cat", "task": ["is", "turn"]}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"task": "is"},
        {"task": ["is"]},
        {"task": [f"t{i}" for i in range(MAX_TASKS)]},
        {"samples": "s", "evaluate_on": {"turn": "s"}, "teacher_task": {"is": "cat-is", "turn": "cat-turn"}},
        {"samples": None},
    ],
)
def test_what_may_be_said(change: dict[str, Any]) -> None:
    said = TransplantRequest.model_validate(ASKED | change)
    assert said.model_dump(exclude_unset=True) == ASKED | change


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("task", [], "a list of 1 to 16 different ones"),
        ("task", 5, "a list of 1 to 16 different ones"),
        ("task", "", "a list of 1 to 16 different ones"),
        ("task", ["is", 5], "a list of 1 to 16 different ones"),
        ("task", ["is", "is"], "a list of 1 to 16 different ones"),
        ("task", [f"t{i}" for i in range(MAX_TASKS + 1)], "a list of 1 to 16 different ones"),
        ("samples", {}, "an object from tasks"),
        ("evaluate_on", ["s", "s"], "an object from tasks"),
        ("teacher_task", {"is": None}, "an object from tasks"),
    ],
)
def test_a_refusal_is_one_sentence_at_the_field(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TransplantRequest.model_validate({**ASKED, field: value})
    (wrong,) = wrong_fields(caught.value.errors(), TransplantRequest)
    assert wrong.at == field
    assert allowed in wrong.problem


def test_the_reference_of_a_task() -> None:
    assert of_task("s", "is") == "s"
    assert of_task({"is": "s"}, "is") == "s"
    assert of_task({"is": "s"}, "turn") is None
    assert of_task(None, "is") is None

"""Names and references as fields of requests: one, or where several tasks are asked for, one for each."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, WrapValidator

from graftery.spec.names import ALIAS_PATTERN, NAME_PATTERN, REFERENCE_PATTERN

MAX_TASKS = 16
"""Of one request."""

Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$", examples=["cat"])]
Alias = Annotated[str, Field(pattern=f"^{ALIAS_PATTERN}$", examples=["stable"])]
Ref = Annotated[
    str,
    # The pattern is stated and not enforced here: the refusal of `parse_reference` says what is allowed.
    Field(
        min_length=1,
        max_length=300,
        examples=["cat:1"],
        description="name, name:3, name@alias or name@sha256:...",
        json_schema_extra={"pattern": f"^{REFERENCE_PATTERN}$"},
    ),
]


def distinct(refs: list[str]) -> list[str]:
    """The same list, for a field whose items have to differ."""
    if len(set(refs)) < len(refs):
        raise ValueError("one of them stands there twice")
    return refs


def _else(allowed: str) -> WrapValidator:
    """One sentence for whatever does not fit, in place of one for each branch of the union."""

    def check(value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            return inner(value)
        except ValidationError:
            raise ValueError(f"it has to be {allowed}") from None

    return WrapValidator(check)


Tasks = Annotated[
    Ref
    | Annotated[
        list[Ref],
        Field(min_length=1, max_length=MAX_TASKS, json_schema_extra={"uniqueItems": True}),
        AfterValidator(distinct),
    ],
    _else(f"a reference, or a list of 1 to {MAX_TASKS} different ones"),
]
"""One task module, or several."""

PerTask = Annotated[
    Ref
    | Annotated[
        dict[Ref, Ref],
        # Its keys' pattern is stated as `patternProperties`: by JSON Schema, other keys might have any value.
        Field(min_length=1, max_length=MAX_TASKS, json_schema_extra={"additionalProperties": False}),
    ],
    _else("a reference, or an object from tasks, as they stand in task, to references"),
]
"""One for all tasks, or by task; a task that is not named has none."""


def of_task(refs: str | dict[str, str] | None, task: str) -> str | None:
    """The reference that is meant for `task`."""
    return refs.get(task) if isinstance(refs, dict) else refs


def strays(refs: str | dict[str, str] | None, asked: Collection[str]) -> list[str]:
    """What is said by name for something that is not asked for, sorted."""
    return sorted(refs.keys() - set(asked)) if isinstance(refs, dict) else []

"""Refused fields in words: which field, what is there instead, which range or choices it has. Torch-free."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel

MAX_LISTED = 20
_MOST_SHOWN = 60
_KEY = "[key]"
_Schema = Mapping[str, Any]


class Wrong(NamedTuple):
    """One field that was refused."""

    at: str
    problem: str
    near: list[str]


def wrong_fields(errors: Iterable[Mapping[str, Any]], model: type[BaseModel], at: str = "") -> list[Wrong]:
    """What pydantic found in a value of `model`, in words that name the field, its range and the names like it.

    Args:
        errors: of a ValidationError; places that do not lie in the model are described in pydantic's words.
        at: where the value stood in what was sent.
    """
    return [_wrong(error, model, at) for error in errors]


def details_of(found: Sequence[Wrong]) -> dict[str, Any]:
    """What an error says of them: `near` the first, and all of them in `errors`."""
    listed = [
        {"at": wrong.at, "problem": wrong.problem, **({"near": wrong.near} if wrong.near else {})} for wrong in found
    ]
    near = {"near": found[0].near} if found and found[0].near else {}
    return {"errors": listed[:MAX_LISTED], **near}


def _wrong(error: Mapping[str, Any], model: type[BaseModel], at: str) -> Wrong:
    place: tuple[str | int, ...] = tuple(error["loc"])
    is_key = place[-1:] == (_KEY,)
    place = place[:-1] if is_key else place
    where = ".".join(part for part in (at, *map(str, place)) if part) or model.__name__
    if error["type"] == "extra_forbidden" or is_key:
        known = _names_beside(model, place)
        near = _near(str(place[-1]), known)
        meant = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(known)}"
        return Wrong(where, f"there is no such field; {meant}", near)
    node = _at(model, place)
    choices = [str(choice) for choice in node.get("enum", ())]
    near = _near(str(error["input"]), choices)
    allowed = f"one of {', '.join(choices)}" if choices else _range(node)
    said = str(error["msg"]).removeprefix("Value error, ")
    problem = f"{_shown(error['input'])} is not allowed: it has to be {allowed}" if allowed else said
    return Wrong(where, problem + (f"; did you mean {' or '.join(near)}?" if near else ""), near)


def _near(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, known, n=3)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _range(node: _Schema) -> str:
    """`a whole number from 2 to 65536`, `a number above 0, at most 10`; empty where the schema has no range."""
    # 1000000.0 is what the schema makes of a float's bound; 1000000 is what a person writes.
    node = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in node.items()
    }
    kind = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(
        str(node.get("type")), ""
    )
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    ends = [
        f"{word} {end}"
        for word, end in (("at least", low), ("above", above), ("at most", high), ("below", below))
        if end is not None
    ]
    return f"{kind} {', '.join(ends)}".strip()


def _names_beside(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """The names that may stand where the last part of `place` stands."""
    node = _at(model, place[:-1])
    keys = node.get("propertyNames", {})
    return [*node.get("properties", {})] or [str(key) for key in _resolved(keys, _schema(model)).get("enum", ())]


def _at(model: type[BaseModel], place: Sequence[str | int]) -> _Schema:
    """The part of the model's JSON schema that describes this place; empty where there is none."""
    schema = _schema(model)
    node = schema
    for part in place:
        below = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
        node = _resolved(below if below is not None else node.get("additionalProperties") or {}, schema)
    return node


def _resolved(node: Any, schema: _Schema) -> _Schema:
    """A node behind its reference, and the one that says something of `X or null`."""
    if not isinstance(node, Mapping):
        return {}
    if "$ref" in node:
        return _resolved(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], schema)
    some = [each for each in node.get("anyOf", ()) if each.get("type") != "null"]
    return _resolved(some[0], schema) if len(some) == 1 else node


@cache
def _schema(model: type[BaseModel]) -> _Schema:
    return model.model_json_schema()

"""The allow-list without torch: each operator's text and its schema, as operators.txt states it.

operators.txt holds one line an operator, in the notation of torch; a test compares every line with torch's own
schema. `sym::` lines are whole-number arithmetic on sizes, and the choice of one tensor out of a list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Returns = Literal["tensor", "tensors", "int"]

_SCHEMA = re.compile(r"(aten|sym)::(\w+)(?:\.(\w+))?\((.*)\) -> (.*)")
_ARGUMENT = re.compile(
    r"(?P<type>\w+)(?:\([a-z](?: -> \*)?\))?(?P<list>(?:\?)?\[\d*\])?(?P<optional>\?)? (?P<name>\w+)(?P<default>=.*)?"
)
_RETURNS: dict[str, Returns] = {"Tensor": "tensor", "Tensor(a)": "tensor", "SymInt": "int"}
# Arguments that only say where or how memory lies: a file may not set them, the server decides.
_PLACEMENT = frozenset({"Layout", "MemoryFormat"})


@dataclass(frozen=True)
class Argument:
    """`type` is torch's word (Tensor, SymInt, ScalarType, ...); `sized` lists take a bare number for all places."""

    name: str
    type: str
    is_list: bool = False
    sized: bool = False
    optional: bool = False
    optional_items: bool = False
    required: bool = True
    keyword_only: bool = False

    @property
    def must_be_null(self) -> bool:
        return self.type in _PLACEMENT or self.name == "pin_memory"


@dataclass(frozen=True)
class Operator:
    """`text` is the name in a file, `aten.conv2d.default`; `views` tells that the result may share its input's memory."""

    text: str
    namespace: str
    name: str
    overload: str
    arguments: tuple[Argument, ...]
    returns: Returns
    views: bool
    schema: str

    @property
    def positional(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if not argument.keyword_only)


@cache
def operators() -> dict[str, Operator]:
    """Every allowed operator by its text."""
    lines = files("graftery.module").joinpath("operators.txt").read_text().splitlines()
    return {operator.text: operator for operator in map(parse_schema, lines)}


def parse_schema(line: str) -> Operator:
    """Read one line of operators.txt."""
    match = _SCHEMA.fullmatch(line)
    if match is None:
        raise ValueError(f"not a schema: {line}")
    namespace, name, overload, arguments, returns = match.groups()
    text = f"sym.{name}" if namespace == "sym" else f"aten.{name}.{overload or 'default'}"
    return Operator(
        text=text,
        namespace=namespace,
        name=name,
        overload=overload or "default",
        arguments=tuple(_arguments(arguments)),
        returns=_RETURNS.get(returns, "tensors"),
        views="(a" in arguments,
        schema=line,
    )


def _arguments(text: str) -> list[Argument]:
    found: list[Argument] = []
    keyword_only = False
    for part in re.split(r", (?![^\[]*\])", text):
        if part == "*":
            keyword_only = True
        else:
            found.append(_argument(part, keyword_only))
    return found


def _argument(text: str, keyword_only: bool) -> Argument:
    match = _ARGUMENT.fullmatch(text)
    if match is None:
        raise ValueError(f"not an argument: {text}")
    brackets = match["list"] or ""
    return Argument(
        name=match["name"],
        type=match["type"],
        is_list=bool(brackets),
        sized=bool(re.search(r"\d", brackets)),
        optional=bool(match["optional"]),
        optional_items=brackets.startswith("?"),
        required=match["default"] is None,
        keyword_only=keyword_only,
    )

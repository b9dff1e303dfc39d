"""Does a JSON argument fit an operator's schema? Torch-free; the second half of the static check."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from graftery.errors import GraphRefused
from graftery.module.graph import BATCH, DEVICE, Node
from graftery.module.opset import Argument, Operator, Returns
from graftery.spec.limits import Limits

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
OPEN_END = 2**63 - 1
_MAX_INT = 2**40
_STRING = re.compile(r"[ -~]{0,64}")
# Operators that read at positions given by a tensor. On a GPU a position that is out of range ends the process, so
# positions have to be constants: then the run on a CPU at the door has met every one of them.
INDEXED = {
    "aten.index.Tensor": "indices",
    "aten.index_select.default": "index",
    "aten.gather.default": "index",
    "aten.embedding.default": "indices",
}
STATISTICS = ("running_mean", "running_var")
# Arguments that would make a net random, or let it change its own weights.
FIXED: dict[str, tuple[str, Any, str]] = {
    "aten.batch_norm.default": ("training", False, "batch_norm_training"),
    "aten.scaled_dot_product_attention.default": ("dropout_p", 0.0, "arguments_invalid"),
}


@dataclass(frozen=True)
class Scope:
    """What a step may refer to: values defined before it, weights of the file."""

    values: Mapping[str, Returns]
    weights: Collection[str]
    limits: Limits


def bind(operator: Operator, node: Node) -> dict[str, Any]:
    """Arguments by name, as the schema orders them.

    Raises:
        GraphRefused: `arguments_invalid` for one too many, one missing, one unknown or one given twice.
    """
    positional = operator.positional
    if len(node.args) > len(positional):
        raise _bad(f"takes {len(positional)} positional arguments, got {len(node.args)}")
    bound = {argument.name: value for argument, value in zip(positional, node.args, strict=False)}
    known = {argument.name for argument in operator.arguments}
    for name, value in node.kwargs.items():
        if name not in known:
            raise _bad(f"has no argument {name[:80]!r}")
        if name in bound:
            raise _bad(f"gets the argument {name!r} twice")
        bound[name] = value
    for argument in operator.arguments:
        if argument.required and argument.name not in bound:
            raise _bad(f"lacks the argument {argument.name!r}")
    return bound


def check_arguments(operator: Operator, bound: Mapping[str, Any], scope: Scope) -> None:
    """Check each argument against the schema, and the ones that have to have one value.

    Raises:
        GraphRefused: `arguments_invalid`, `value_undefined`, `weight_missing`, `graph_too_large`,
            `batch_norm_training`.
    """
    for argument in operator.arguments:
        if argument.name in bound:
            _check(argument, bound[argument.name], scope)
    if operator.text == "aten.instance_norm.default" and any(bound[name] is not None for name in STATISTICS):
        # Whatever `use_input_stats` says, it writes to them: a batch norm with these statistics is the same function.
        raise GraphRefused("would update its statistics when it runs", code="batch_norm_training")
    if operator.text in FIXED:
        name, wanted, code = FIXED[operator.text]
        given = bound.get(name, wanted)
        if given != wanted:
            raise GraphRefused(f"has {name} = {str(given)[:80]}, only {wanted} is allowed", code=code)


def _check(argument: Argument, value: Any, scope: Scope) -> None:
    if value is None and argument.optional:
        return
    if argument.must_be_null:
        raise _misfit(argument, value, "nothing: the server decides this")
    if argument.is_list and isinstance(value, list):
        if len(value) > scope.limits.list_length:
            raise GraphRefused(
                f"argument {argument.name!r} is a list of {len(value)}, {scope.limits.list_length} are allowed",
                code="graph_too_large",
            )
        for item in value:
            if not (item is None and argument.optional_items):
                _check_one(argument, item, scope)
    elif argument.is_list and argument.type == "Tensor":
        _reference(argument, value, scope, ("tensors",))
    elif argument.is_list and not argument.sized:
        raise _misfit(argument, value, "a list")
    else:
        _check_one(argument, value, scope)


def _check_one(argument: Argument, value: Any, scope: Scope) -> None:
    kinds: Mapping[str, Callable[[Any], bool]] = _LITERALS[argument.type]
    if isinstance(value, dict):
        if len(value) != 1:
            raise _misfit(argument, value, "an object with one key")
        key = next(iter(value))
        if key in ("v", "w") and argument.type in _REFERENCES:
            _reference(argument, value, scope, _REFERENCES[argument.type])
        elif not (key in kinds and kinds[key](value[key])):
            raise _misfit(argument, value, argument.type)
    elif not any(kinds[name](value) for name in ("literal",) if name in kinds):
        raise _misfit(argument, value, argument.type)


def _reference(argument: Argument, value: Any, scope: Scope, kinds: tuple[Returns, ...]) -> None:
    if not isinstance(value, dict) or len(value) != 1:
        raise _misfit(argument, value, "a reference")
    ((key, name),) = value.items()
    if not isinstance(name, str):
        raise _misfit(argument, value, "a reference by text")
    if key == "w" and "tensor" in kinds:
        if name not in scope.weights:
            raise GraphRefused(f"names the weight {name[:200]!r}, which the file lacks", code="weight_missing")
    elif key == "v":
        if name not in scope.values:
            raise GraphRefused(f"uses {name[:20]!r}, which is not defined before it", code="value_undefined")
        if scope.values[name] not in kinds:
            raise _bad(f"argument {argument.name!r} needs {' or '.join(kinds)}, {name} is {scope.values[name]}")
    else:
        raise _misfit(argument, value, "a value")


def _is_int(value: Any) -> bool:
    return type(value) is int and (abs(value) <= _MAX_INT or value == OPEN_END)


def _is_float(value: Any) -> bool:
    return _is_int(value) or (type(value) is float and math.isfinite(value))


def _is_scalar(value: Any) -> bool:
    return type(value) is bool or _is_float(value)


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_string(value: Any) -> bool:
    return isinstance(value, str) and _STRING.fullmatch(value) is not None


def _is_dtype(value: Any) -> bool:
    return isinstance(value, str) and value in DTYPES


def _is_infinite(value: Any) -> bool:
    return isinstance(value, str) and value in ("inf", "-inf")


def _is_one(value: Any) -> bool:
    return type(value) is int and value == 1


_N, _D = next(iter(BATCH)), next(iter(DEVICE))
_LITERALS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "Tensor": {"literal": _is_scalar, "f": _is_infinite, _N: _is_one},
    "Scalar": {"literal": _is_scalar, "f": _is_infinite, _N: _is_one},
    "SymInt": {"literal": _is_int, _N: _is_one},
    "int": {"literal": _is_int},
    "float": {"literal": _is_float, "f": _is_infinite},
    "bool": {"literal": _is_bool},
    "str": {"literal": _is_string},
    "ScalarType": {"dtype": _is_dtype},
    "Device": {_D: _is_one},
}
_REFERENCES: Mapping[str, tuple[Returns, ...]] = {
    "Tensor": ("tensor", "int"),
    "Scalar": ("int",),
    "SymInt": ("int",),
}


def _bad(what: str) -> GraphRefused:
    return GraphRefused(what, code="arguments_invalid")


def _misfit(argument: Argument, value: Any, wanted: str) -> GraphRefused:
    return _bad(f"argument {argument.name!r} needs {wanted}, got {str(value)[:80]}")

"""The one place where an operator's text becomes a torch operator, and a dtype's text a torch dtype.

Names are looked up in our own table; nothing from a file is ever an attribute name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from graftery.module.opset import Operator, operators

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
STORED: dict[str, torch.dtype] = {
    "F32": torch.float32,
    "F64": torch.float64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
STORED_NAMES = {dtype: name for name, dtype in STORED.items()}

_SYMBOLIC: dict[str, Callable[..., Any]] = {
    "sym.add": operator.add,
    "sym.sub": operator.sub,
    "sym.mul": operator.mul,
    "sym.floordiv": operator.floordiv,
    "sym.mod": operator.mod,
    "sym.getitem": operator.getitem,
}


@cache
def torch_operator(text: str) -> Callable[..., Any]:
    """The torch operator of an allowed text.

    Raises:
        KeyError: the text is not on the list; the static check has refused such a file before.
    """
    return _SYMBOLIC[text] if text in _SYMBOLIC else _aten(operators()[text])


@cache
def texts() -> dict[Any, str]:
    """The way back, for the tracer: torch operator to text."""
    return {torch_operator(text): text for text in operators()}


def _aten(allowed: Operator) -> Callable[..., Any]:
    packet = getattr(torch.ops.aten, allowed.name)  # A name from our own table.
    found: Callable[..., Any] = getattr(packet, allowed.overload)
    return found

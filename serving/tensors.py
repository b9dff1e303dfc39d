"""Tensors on the wire of the Open Inference Protocol: JSON numbers or little-endian bytes, to and from numpy. No torch.

A BF16 tensor is held as its bits (uint16): numpy has no such type. It crosses the wire as bytes only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftery.errors import InferenceRefused

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("|b1"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_OF_MANIFEST = {
    "bool": "BOOL",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
}
_BF16_EXPONENT = 0x7F80


def datatype_of(dtype: str) -> str:
    """The protocol's name of a manifest's dtype: "float32" -> "FP32"."""
    if dtype not in _OF_MANIFEST:
        raise InferenceRefused(f"the dtype {dtype} cannot be served", code="not_ready")
    return _OF_MANIFEST[dtype]


def from_binary(raw: bytes | memoryview, datatype: str, shape: Sequence[int], where: str) -> Array:
    """An array [shape] out of its little-endian, row-major bytes. `where` names the tensor in errors."""
    dtype = DTYPES[datatype]
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise InferenceRefused(
            f"{where}: {datatype} {list(shape)} takes {expected} bytes, got binary_data_size {len(raw)}"
        )
    if datatype == "BOOL" and np.any(np.frombuffer(raw, np.uint8) > 1):
        raise InferenceRefused(f"{where}: a BOOL is a byte 0 or 1, got another value")
    # A copy: the bytes behind the JSON part are read-only and begin anywhere, torch wants neither.
    return np.frombuffer(raw, dtype).reshape(shape).copy()


def to_binary(array: Array, datatype: str) -> bytes:
    return np.ascontiguousarray(array, DTYPES[datatype]).tobytes()


def from_json(data: list[Any], datatype: str, shape: Sequence[int], where: str) -> Array:
    """An array [shape] out of JSON numbers, flat in row-major order or nested as the shape says."""
    if datatype == "BF16":
        raise InferenceRefused(f"{where}: BF16 has no JSON form; send it as binary data")
    values = _flat(data, shape, where)
    _check_types(values, datatype, where)
    try:
        with np.errstate(over="ignore"):
            return np.array(values, DTYPES[datatype]).reshape(shape)
    except OverflowError:
        raise InferenceRefused(f"{where}: a number in data is outside the range of {datatype}") from None


def from_numbers(values: Array, datatype: str, shape: Sequence[int], where: str) -> Array:
    """An array [shape] out of numbers [count] that were read from JSON already."""
    if len(values) != math.prod(shape):
        raise InferenceRefused(f"{where}: shape {list(shape)} takes {math.prod(shape)} numbers, got {len(values)}")
    with np.errstate(over="ignore"):
        return values.astype(DTYPES[datatype]).reshape(shape)


def to_json(array: Array, datatype: str, where: str) -> Array | list[Any]:
    """Flat, in row-major order; each number is written so that it reads back the same, as an array where orjson takes it."""
    if datatype == "BF16":
        raise InferenceRefused(f"{where}: BF16 has no JSON form; ask for it as binary data")
    if not is_finite(array, datatype):
        raise InferenceRefused(
            f"{where}: holds NaN or Inf for this input, which JSON cannot write; ask for it as binary data"
        )
    if datatype == "FP16":  # in the digits of FP16, 0.1 would not read back the same
        values: list[Any] = array.ravel().tolist()
        return values
    return np.ascontiguousarray(array.ravel())


def is_finite(array: Array, datatype: str) -> bool:
    if datatype == "BF16":
        return not np.any((array & _BF16_EXPONENT) == _BF16_EXPONENT)
    return DTYPES[datatype].kind != "f" or bool(np.isfinite(array).all())


def check_finite(array: Array, datatype: str, where: str) -> None:
    """Refuse NaN and Inf, and numbers that became Inf because the datatype is too small for them."""
    if not is_finite(array, datatype):
        raise InferenceRefused(f"{where}: expected finite {datatype} numbers, got NaN or Inf (or beyond {datatype})")


def _flat(data: list[Any], shape: Sequence[int], where: str) -> list[Any]:
    if any(isinstance(item, list) for item in data):
        return _unnest(data, shape, where)
    if len(data) != math.prod(shape):
        raise InferenceRefused(f"{where}: shape {list(shape)} takes {math.prod(shape)} numbers, got {len(data)}")
    return data


def _unnest(data: list[Any], shape: Sequence[int], where: str) -> list[Any]:
    level: list[Any] = [data]
    for depth, size in enumerate(shape):
        for item in level:
            if not isinstance(item, list):
                raise InferenceRefused(f"{where}: data is nested {depth} deep in places, expected {len(shape)}")
            if len(item) != size:
                raise InferenceRefused(
                    f"{where}: a list at depth {depth} of data has {len(item)} items, expected {size} "
                    f"for shape {list(shape)}"
                )
        level = list(chain.from_iterable(level))
    return level


def _check_types(values: Iterable[Any], datatype: str, where: str) -> None:
    kind = DTYPES[datatype].kind
    allowed: set[type] = {bool} if kind == "b" else {int, float} if kind == "f" else {int}
    strangers = sorted(_json_name(found) for found in set(map(type, values)) - allowed)
    if strangers:
        expected = {"b": "true and false", "f": "numbers"}.get(kind, "whole numbers")
        raise InferenceRefused(f"{where}: expected {expected} in data for {datatype}, got {', '.join(strangers)}")


def _json_name(found: type) -> str:
    names = {
        str: "a string",
        bool: "a boolean",
        float: "a fraction",
        int: "a number",
        type(None): "null",
        list: "a list",
    }
    return names.get(found, "an object")

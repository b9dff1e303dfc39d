"""BYTES tensors of encoded images on the wire: rows out of Triton's length-prefixed bytes, or out of base64 in JSON."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

from graftery.errors import InferenceRefused

BYTES = "BYTES"
_PREFIX_BYTES = 4


def check_shape(shape: Sequence[int], max_batch: int, where: str) -> None:
    """A row is one element: [N], or [N, 1] as clients with a batch dimension send it."""
    if len(shape) not in (1, 2) or shape[0] < 1 or list(shape[1:]) not in ([], [1]):
        raise InferenceRefused(f"{where}: expected shape [N] for BYTES, one encoded image a row, got {list(shape)}")
    if shape[0] > max_batch:
        raise InferenceRefused(f"{where}: expected a batch of at most {max_batch}, got {shape[0]}")


def rows_sent(shapes: Iterable[Sequence[int]], max_batch: int) -> int:
    """How many images tensors of these shapes, which nobody has checked, have at most; no request may have more than a batch."""
    return max(min(max([1, *shape[:1]]), max_batch) for shape in shapes)


def rows(data: Sequence[Any] | None, raw: memoryview | None, count: int, where: str) -> list[bytes]:
    """The rows of a tensor, from whichever form it has."""
    if raw is not None:
        return from_binary(raw, count, where)
    if data is None:
        raise InferenceRefused(f"{where}: has neither data nor binary_data_size")
    return from_json(data, count, where)


def from_binary(raw: memoryview, count: int, where: str) -> list[bytes]:
    """Rows that each follow their length, 4 little-endian bytes."""
    found: list[bytes] = []
    start = 0
    for row in range(count):
        body = start + _PREFIX_BYTES
        left = len(raw) - body
        if left < 0:
            raise InferenceRefused(f"{where}: row {row}: expected 4 bytes of length, {len(raw) - start} bytes are left")
        size = int.from_bytes(raw[start:body], "little")
        if size > left:
            raise InferenceRefused(f"{where}: row {row}: its length says {size} bytes, {left} are left")
        found.append(bytes(raw[body : body + size]))
        start = body + size
    if start != len(raw):
        raise InferenceRefused(f"{where}: {len(raw) - start} bytes follow the last of {count} rows")
    return found


def to_binary(rows: Sequence[bytes]) -> bytes:
    """The inverse of `from_binary`."""
    return b"".join(part for row in rows for part in (len(row).to_bytes(_PREFIX_BYTES, "little"), row))


def from_json(data: Sequence[Any], count: int, where: str) -> list[bytes]:
    """Rows that are base64 strings; nested where the shape is [N, 1]."""
    if len(data) != count:
        raise InferenceRefused(f"{where}: expected {count} base64 strings in data, got {len(data)} items")
    return [_row(item, f"{where}: row {row}") for row, item in enumerate(data)]


def _row(item: Any, where: str) -> bytes:
    if isinstance(item, list) and len(item) == 1:
        item = item[0]
    if not isinstance(item, str):
        raise InferenceRefused(f"{where}: expected a base64 string")
    try:
        return base64.b64decode(item, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InferenceRefused(f"{where}: expected base64: {error}") from None

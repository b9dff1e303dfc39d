"""Reading the JSON of an infer request without a Python object for each of its numbers.

simdjson walks the text; numbers of FP tensors go straight into an array. Whatever is unusual is left to the plain reader,
which also finds the words for what is wrong: this one only ever says "not mine".
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import simdjson

LEAST_BYTES = 512
"""Below this there is nothing to win."""
FEW_BRACKETS = 16
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_mine = threading.local()


def read(text: bytes) -> dict[str, Any] | None:
    """The request's document, with an array float64 [count] as the `data` of each FP tensor; None: read it plainly.

    Nested `data` comes flat, once its lists were seen to be nested as the tensor's shape says.
    """
    try:
        parser = _mine.parser
    except AttributeError:
        parser = _mine.parser = simdjson.Parser()
    try:
        document = parser.parse(text)
        data_lists: list[int] = []
        found = _document(document, data_lists) if isinstance(document, simdjson.Object) else None
        # Flattened, a list of one number looks like a number: there must be no bracket too many.
        return found if found is not None and _has_brackets(text, _lists(found) + sum(data_lists)) else None
    except (ValueError, RuntimeError, TypeError, KeyError, UnicodeError):
        return None
    finally:
        document = None  # the parser is free for the next text only when nothing of this one is held


def _has_brackets(text: bytes, count: int) -> bool:
    """Whether there are so many opening brackets: from one to the next where they are few, which is faster than counting."""
    if count > FEW_BRACKETS:
        return text.count(b"[") == count
    at = -1
    for _ in range(count):
        at = text.find(b"[", at + 1)
        if at < 0:
            return False
    return text.find(b"[", at + 1) < 0


def _document(document: simdjson.Object, data_lists: list[int]) -> dict[str, Any] | None:
    if not _unique(document) or "inputs" not in document:
        return None
    found = {name: _plain(document[name]) for name in document if name != "inputs"}
    inputs = document["inputs"]
    if not isinstance(inputs, simdjson.Array):
        return None
    found["inputs"] = [_tensor(each, data_lists) for each in inputs]
    return None if None in found["inputs"] else found


def _tensor(tensor: Any, data_lists: list[int]) -> dict[str, Any] | None:
    """`data_lists` gets the number of lists that the tensor's data was written with."""
    if not isinstance(tensor, simdjson.Object) or not _unique(tensor):
        return None
    found = {name: _plain(tensor[name]) for name in tensor if name != "data"}
    if "data" in tensor:
        data = tensor["data"]
        if found.get("datatype") not in _FLOATS or not isinstance(data, simdjson.Array):
            return None
        shape = found.get("shape")
        nested = len(data) > 0 and isinstance(data[0], simdjson.Array)
        if nested and not (isinstance(shape, list) and _nested(data, shape)):
            return None
        found["data"] = np.frombuffer(data.as_buffer(of_type="d"), np.float64)
        data_lists.append(sum(math.prod(shape[:depth]) for depth in range(len(shape))) if nested and shape else 1)
    return found


def _nested(data: Any, shape: list[Any]) -> bool:
    """Whether lists are nested as the shape says; the last level is seen by its length."""
    if not shape or not isinstance(data, simdjson.Array) or len(data) != shape[0]:
        return False
    return len(shape) == 1 or all(_nested(each, shape[1:]) for each in data)


def _lists(value: Any) -> int:
    """How many lists are in a value; arrays count for none."""
    if isinstance(value, dict):
        return sum(map(_lists, value.values()))
    return 1 + sum(map(_lists, value)) if isinstance(value, list) else 0


def _unique(mapping: simdjson.Object) -> bool:
    """Of a name that is there twice, readers differ in which one they take."""
    names = list(mapping)
    return len(names) == len(set(names))


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value

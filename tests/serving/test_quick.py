"""The quick reader gives what the plain one gives, or leaves the text to it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftery.errors import InferenceRefused
from serving import protocol, quick
from serving.protocol import Declared


def text_of(data: Any, shape: list[int], datatype: str = "FP32", **more: Any) -> bytes:
    tensor = {"name": "input", "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def test_numbers_come_as_an_array_and_the_rest_as_it_is() -> None:
    parameters = {"timeout": 5, "a": [1, {"b": None}]}
    found = quick.read(text_of([[1, 2.5], [-3e-7, 4]], [2, 2], id="x", parameters=parameters))
    assert found is not None
    assert found["id"] == "x" and found["parameters"] == parameters
    (tensor,) = found["inputs"]
    assert tensor["data"].tolist() == [1.0, 2.5, -3e-7, 4.0]
    assert {name: tensor[name] for name in ("name", "shape", "datatype")} == {
        "name": "input", "shape": [2, 2], "datatype": "FP32",
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        [1, True], [1, "a"], [1, None], [1, [2, 3, 4]], [[1, 2], [3]], [[1], [2, 3]], [[1, 2], 3], [{}], "abc", 3, None,
        [[[1, 2]], [[3, 4]]], [1, 2, 3, [4]], [[1, [2]], [3, 4]], [10**30, 1, 1, 1], [[1, 2], [3, 4], [5, 6]],
    ],
)  # fmt: skip
def test_the_unusual_is_left_to_the_plain_reader(data: Any) -> None:
    assert quick.read(text_of(data, [2, 2])) is None


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"{", b"3", b"{}", b'{"inputs": 3}', b'{"inputs": [3]}', b'{"inputs": [], "inputs": []}',
        b'{"inputs": [{"name": "a", "name": "b"}]}', b'{"inputs": [{"data": [NaN], "datatype": "FP32", "shape": [1]}]}',
        b'\xff{"inputs": []}', text_of([1, 2], [2], "INT64"), b'{"inputs": [' * 5000,
    ],
)  # fmt: skip
def test_no_text_breaks_it(text: bytes) -> None:
    assert quick.read(text) is None
    assert quick.read(text_of([1.0], [1])) is not None


DECLARED = [Declared("input", "FP32", (-1, 2))]
numbers = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False))
odd = st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=2), st.lists(numbers, max_size=3))


def both(text: bytes) -> list[Any]:
    """What the two readers make of a text: an array, or the refusal."""
    found: list[Any] = []
    for least in (0, math.inf):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(quick, "LEAST_BYTES", least)
            try:
                request, binary = protocol.parse(text, None)
                found.append(protocol.inputs_of(request, binary, DECLARED, 8)["input"])
            except InferenceRefused as error:
                found.append(str(error))
    return found


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(odd, max_size=6), st.lists(st.lists(odd, max_size=3), max_size=3)), st.integers(0, 4))
def test_both_readers_agree(data: list[Any], rows: int) -> None:
    quickly, plainly = both(text_of(data, [rows, 2]))
    if isinstance(plainly, str):
        assert quickly == plainly
    else:
        np.testing.assert_array_equal(quickly, plainly)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=8), st.booleans())
def test_both_readers_agree_on_what_is_right(rows: list[list[float]], flat: bool) -> None:
    data = [value for row in rows for value in row] if flat else rows
    quickly, plainly = both(text_of(data, [len(rows), 2]))
    if isinstance(plainly, str):
        assert quickly == plainly and "finite" in plainly
    else:
        np.testing.assert_array_equal(quickly, plainly)

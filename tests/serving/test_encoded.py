"""BYTES on the wire: rows out of length-prefixed bytes and out of base64."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import serialize_byte_tensor

from graftery.errors import InferenceRefused
from serving import encoded


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_the_binary_form_is_tritons_and_reads_back(rows: list[bytes]) -> None:
    packed = encoded.to_binary(rows)
    theirs = serialize_byte_tensor(np.array([*rows, None], dtype=object)[:-1])
    assert packed == theirs.item()
    assert encoded.from_binary(memoryview(packed), len(rows), "input") == rows


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "row 0: expected 4 bytes of length, 0 bytes are left"),
        (b"\1\0", "row 0: expected 4 bytes of length, 2 bytes are left"),
        (b"\5\0\0\0abc", "row 0: its length says 5 bytes, 3 are left"),
        (b"\xff\xff\xff\xffabc", "row 0: its length says 4294967295 bytes, 3 are left"),
        (b"\1\0\0\0a", "row 1: expected 4 bytes of length, 0 bytes are left"),
        (b"\1\0\0\0a\0\0\0\0b", "1 bytes follow the last of 2 rows"),
    ],
)
def test_wrong_prefixes_name_the_row(raw: bytes, message: str) -> None:
    with pytest.raises(InferenceRefused, match=f"^input: {message}$"):
        encoded.from_binary(memoryview(raw), 2, "input")


def test_rows_are_counted_from_shapes_that_nobody_checked() -> None:
    assert encoded.rows_sent([[3], [2, 1]], 256) == 3
    assert encoded.rows_sent([[], [0]], 256) == encoded.rows_sent([[-7]], 256) == 1
    assert encoded.rows_sent([[2**40]], 256) == 256


def test_base64_flat_or_nested() -> None:
    text = base64.b64encode(b"image").decode()
    assert encoded.from_json([text, [text]], 2, "input") == [b"image"] * 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected 1 base64 strings in data, got 0"),
        ([7], "row 0: expected a base64 string"),
        ([["YQ==", "YQ=="]], "row 0: expected a base64 string"),
        (["YQ="], "row 0: expected base64"),
        (["Y Q=="], "row 0: expected base64"),
        (["\u00e4"], "row 0: expected base64"),
    ],
)
def test_what_is_no_base64_names_the_row(data: list[object], message: str) -> None:
    with pytest.raises(InferenceRefused, match=message):
        encoded.from_json(data, 1, "input")


@pytest.mark.parametrize("shape", [[], [0], [1, 2], [1, 1, 1], [1, 3, 8, 8]])
def test_a_row_is_one_element(shape: list[int]) -> None:
    with pytest.raises(InferenceRefused, match=r"expected shape \[N\] for BYTES"):
        encoded.check_shape(shape, 8, "input")


def test_the_batch_is_limited() -> None:
    encoded.check_shape([8, 1], 8, "input")
    with pytest.raises(InferenceRefused, match="a batch of at most 8, got 9"):
        encoded.check_shape([9], 8, "input")


def test_a_tensor_without_either_form_is_refused() -> None:
    with pytest.raises(InferenceRefused, match="input: has neither data nor binary_data_size"):
        encoded.rows(None, None, 1, "input")

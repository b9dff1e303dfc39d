"""The codec: what goes out comes back the same, and what does not fit is named."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graftery.errors import InferenceRefused
from serving import tensors
from serving.tensors import DTYPES

WHERE = "input 'x'"
JSON_TYPES = sorted(set(DTYPES) - {"BF16"})
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)


@st.composite
def arrays(draw: st.DrawFn, datatype: str) -> tensors.Array:
    dtype = DTYPES[datatype]
    elements = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    found: tensors.Array = draw(hnp.arrays(dtype, draw(SHAPES), elements=elements or None))
    return found


@pytest.mark.parametrize("datatype", sorted(DTYPES))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_binary_round_trip_keeps_every_bit(datatype: str, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    raw = tensors.to_binary(array, datatype)
    back = tensors.from_binary(memoryview(raw), datatype, array.shape, WHERE)
    assert back.dtype == DTYPES[datatype] and back.shape == array.shape
    assert back.tobytes() == raw
    assert back.flags.writeable and back.flags.aligned


@pytest.mark.parametrize("datatype", JSON_TYPES)
@pytest.mark.parametrize("nested", [False, True])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_json_round_trip_keeps_every_number(datatype: str, nested: bool, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    values = array.tolist() if nested else tensors.to_json(array, datatype, WHERE)
    back = tensors.from_json(
        json.loads(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)), datatype, array.shape, WHERE
    )
    assert back.dtype == DTYPES[datatype]
    np.testing.assert_array_equal(back, array)


def test_binary_is_little_endian_and_row_major() -> None:
    array = np.asfortranarray([[1, 2], [3, 4]], dtype=">i2")
    assert tensors.to_binary(array, "INT16") == bytes([1, 0, 2, 0, 3, 0, 4, 0])


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_binary_of_a_wrong_length_says_both_lengths(size: int) -> None:
    with pytest.raises(InferenceRefused, match=rf"input 'x': FP32 \[2\] takes 8 bytes, got binary_data_size {size}"):
        tensors.from_binary(b"\0" * size, "FP32", [2], WHERE)


def test_binary_of_huge_sizes_costs_nothing() -> None:
    with pytest.raises(InferenceRefused, match="takes 53169119831396"):
        tensors.from_binary(b"", "FP32", [2**40, 2**40, 2**40], WHERE)


def test_a_bool_is_a_byte_0_or_1() -> None:
    assert tensors.from_binary(b"\0\1", "BOOL", [2], WHERE).tolist() == [False, True]
    with pytest.raises(InferenceRefused, match="byte 0 or 1"):
        tensors.from_binary(b"\0\2", "BOOL", [2], WHERE)


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "message"),
    [
        ([1, 2, 3], "FP32", [2, 2], r"shape \[2, 2\] takes 4 numbers, got 3"),
        ([], "FP32", [1], "takes 1 numbers, got 0"),
        ([[1, 2], [3]], "FP32", [2, 2], "a list at depth 1 of data has 1 items, expected 2"),
        ([[1, 2], 3], "FP32", [2, 2], "nested 1 deep in places, expected 2"),
        ([[[1]]], "FP32", [1, 1], "got a list"),
        ([["1", "2"]], "FP32", [1, 2], "expected numbers in data for FP32, got a string"),
        ([None, 1.0], "FP32", [2], "got null"),
        ([True, 1.0], "FP64", [2], "got a boolean"),
        ([{}, 1.0], "FP64", [2], "got an object"),
        ([1.5], "INT32", [1], "expected whole numbers in data for INT32, got a fraction"),
        ([1], "BOOL", [1], "expected true and false in data for BOOL, got a number"),
        ([300], "UINT8", [1], "outside the range of UINT8"),
        ([-1], "UINT64", [1], "outside the range of UINT64"),
        ([10**400], "FP64", [1], "outside the range of FP64"),
        ([1.0], "BF16", [1], "BF16 has no JSON form"),
    ],
)
def test_json_that_does_not_fit_is_refused(data: list[Any], datatype: str, shape: list[int], message: str) -> None:
    with pytest.raises(InferenceRefused, match=f"input 'x': .*{message}"):
        tensors.from_json(data, datatype, shape, WHERE)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_refused(datatype: str, value: float) -> None:
    array = np.array([0, value], DTYPES[datatype])
    with pytest.raises(InferenceRefused, match="expected finite"):
        tensors.check_finite(array, datatype, WHERE)
    with pytest.raises(InferenceRefused, match="JSON cannot write"):
        tensors.to_json(array, datatype, WHERE)


@pytest.mark.parametrize(("datatype", "value"), [("FP16", 70_000), ("FP32", 1e39), ("FP64", 1e999)])
def test_a_number_beyond_the_datatype_is_refused(datatype: str, value: float) -> None:
    array = tensors.from_json([value], datatype, [1], WHERE)
    with pytest.raises(InferenceRefused, match=f"beyond {datatype}"):
        tensors.check_finite(array, datatype, WHERE)


@pytest.mark.parametrize(("bits", "finite"), [(0x7F7F, True), (0x7F80, False), (0xFF80, False), (0x7FC0, False)])
def test_bf16_is_judged_by_its_bits(bits: int, finite: bool) -> None:
    assert tensors.is_finite(np.array([0, bits], np.uint16), "BF16") is finite


@pytest.mark.parametrize(("dtype", "datatype"), [("float32", "FP32"), ("bool", "BOOL"), ("bfloat16", "BF16")])
def test_datatypes_by_the_manifests_names(dtype: str, datatype: str) -> None:
    assert tensors.datatype_of(dtype) == datatype


def test_a_dtype_without_a_datatype_cannot_be_served() -> None:
    with pytest.raises(InferenceRefused, match="complex64"):
        tensors.datatype_of("complex64")

"""Reading requests, without any server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftery.errors import InferenceRefused
from serving import protocol
from serving.protocol import Declared

IMAGE = Declared("input", "FP32", (-1, 2))
FREE = Declared("input", "FP32", (-1, 3, -1, -1))
ONE = {"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


def read(document: Any, binary: bytes = b"", declared: Declared = IMAGE, max_batch: int = 4) -> Any:
    head = json.dumps(document).encode()
    request, rest = protocol.parse(head + binary, str(len(head)) if binary else None)
    return protocol.inputs_of(request, rest, [declared], max_batch)


def test_json_and_binary_inputs_are_the_same() -> None:
    raw = np.array([[1, 2]], "<f4").tobytes()
    binary = {"name": "input", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    np.testing.assert_array_equal(read({"inputs": [ONE]})["input"], read({"inputs": [binary]}, raw)["input"])


def test_fields_that_nobody_knows_are_ignored() -> None:
    assert read({"inputs": [ONE], "priority": 3, "parameters": {"sequence_id": 1}})["input"].tolist() == [[1, 2]]


BAD_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"name": "image"}, "input 'image': the model has no such input; expected 'input'"),
    ({"datatype": "FP64"}, "input 'input': expected datatype FP32, got 'FP64'"),
    ({"datatype": "BYTES"}, "expected datatype FP32, got 'BYTES'"),
    ({"shape": [2]}, r"expected shape \[N, 2\] with sizes of 1 or more, got \[2\]"),
    ({"shape": [1, 3]}, r"expected shape \[N, 2\].*got \[1, 3\]"),
    ({"shape": [0, 2], "data": []}, r"sizes of 1 or more, got \[0, 2\]"),
    ({"shape": [5, 2], "data": [0] * 10}, "expected a batch of at most 4, got 5"),
    ({"shape": [2, 2]}, r"shape \[2, 2\] takes 4 numbers, got 2"),
    ({"shape": [-1, 2]}, r"inputs\[0\].shape\[0\]: Input should be greater than or equal to 0"),
    ({"shape": [1.5, 2]}, r"inputs\[0\].shape\[0\]"),
    ({"shape": ["1", 2]}, r"inputs\[0\].shape\[0\]"),
    ({"shape": [True, 2]}, r"inputs\[0\].shape\[0\]"),
    ({"shape": [1] * 9}, r"inputs\[0\].shape"),
    ({"data": None}, "has neither data nor binary_data_size"),
    ({"data": "abc"}, r"inputs\[0\].data"),
    ({"data": [1e39, 0]}, "expected finite FP32"),
    ({"data": [1, "2"]}, "got a string"),
    ({"parameters": {"binary_data_size": 8}}, "binary_data_size is 8, but 0 bytes follow the JSON part"),
    ({"parameters": {"binary_data_size": "8"}}, "expected a number of bytes, got '8'"),
    ({"parameters": {"binary_data_size": True}}, "expected a number of bytes, got True"),
    ({"parameters": {"binary_data_size": -8}}, "expected a number of bytes, got -8"),
    ({"parameters": {"binary_data_size": 0}}, "has both data and binary_data_size"),
    ({"parameters": {"shared_memory_region": "r"}}, "shared memory is not supported"),
]


@pytest.mark.parametrize(("change", "message"), BAD_INPUTS)
def test_a_bad_input_is_named_with_expected_and_got(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InferenceRefused, match=message):
        read({"inputs": [ONE | change]})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([ONE, ONE], "input 'input': given 2 times, expected once"),
        ([ONE, ONE | {"name": "mask"}], "input 'mask': the model has no such input"),
        ([], "inputs: List should have at least 1 item"),
        (None, "inputs: Input should be a valid list"),
        ([7], r"inputs\[0\]"),
        ([{}], r"inputs\[0\].name: Field required \(and 2 more\)"),
    ],
)
def test_bad_lists_of_inputs(inputs: Any, message: str) -> None:
    with pytest.raises(InferenceRefused, match=message):
        read({"inputs": inputs})


def test_a_missing_input_is_named() -> None:
    request, rest = protocol.parse(json.dumps({"inputs": [ONE]}).encode(), None)
    with pytest.raises(InferenceRefused, match="input 'mask': missing; expected 'input', 'mask'"):
        protocol.inputs_of(request, rest, [IMAGE, Declared("mask", "FP32", (-1,))], 4)


def test_free_sizes_take_any_size_but_none() -> None:
    data = {"name": "input", "datatype": "FP32", "shape": [1, 3, 2, 5], "data": [0] * 30}
    assert read({"inputs": [data]}, declared=FREE)["input"].shape == (1, 3, 2, 5)
    with pytest.raises(InferenceRefused, match=r"\[N, 3, H, W\] with sizes of 1 or more, got \[1, 3, 0, 5\]"):
        read({"inputs": [data | {"shape": [1, 3, 0, 5], "data": []}]}, declared=FREE)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "1", '{"inputs": NaN}', '{"inputs": [Infinity]}', "[" * 100_000, "\xff", "1" * 5000],
)
def test_json_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InferenceRefused):
        protocol.parse(text.encode("latin-1"), None)


@pytest.mark.parametrize("length", ["-1", "+1", " 1", "1_0", "1.0", "abc", "", "٣", "9" * 13, "99"])
def test_bad_header_lengths(length: str) -> None:
    with pytest.raises(InferenceRefused, match="Inference-Header-Content-Length"):
        protocol.parse(b'{"inputs": []}', length)


def test_bytes_that_belong_to_no_input_are_refused() -> None:
    binary = {"name": "input", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    with pytest.raises(InferenceRefused, match="1 bytes behind the JSON part belong to no input"):
        read({"inputs": [binary]}, b"\0" * 9)
    with pytest.raises(InferenceRefused, match=r"input 'input': binary_data_size is 8, but 7 bytes follow"):
        read({"inputs": [binary]}, b"\0" * 7)


def _wishes(document: dict[str, Any]) -> dict[str, bool]:
    request, _ = protocol.parse(json.dumps({"inputs": [ONE], **document}).encode(), None)
    return protocol.wishes_of(request, ["is", "odd"])


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, {"is": False, "odd": False}),
        ({"outputs": []}, {"is": False, "odd": False}),
        ({"parameters": {"binary_data_output": True}}, {"is": True, "odd": True}),
        ({"outputs": [{"name": "odd"}]}, {"odd": False}),
        (
            {
                "outputs": [{"name": "odd"}, {"name": "is", "parameters": {"binary_data": False}}],
                "parameters": {"binary_data_output": True},
            },
            {"odd": True, "is": False},
        ),
    ],
)
def test_wanted_outputs(document: dict[str, Any], expected: dict[str, bool]) -> None:
    assert list(_wishes(document).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([{"name": "no"}], "output 'no': the model has no such output; it has 'is', 'odd'"),
        ([{"name": "is"}, {"name": "is"}], "output 'is': requested twice"),
        ([{"name": "is", "parameters": {"binary_data": 1}}], "output 'is': binary_data: expected true or false, got 1"),
        ([{"name": "is", "parameters": {"classification": 3}}], "classification extension is not supported"),
        ([{"name": "is", "parameters": {"shared_memory_region": "r"}}], "shared memory is not supported"),
        ([{}], r"outputs\[0\].name"),
    ],
)
def test_bad_wishes(outputs: list[Any], message: str) -> None:
    with pytest.raises(InferenceRefused, match=message):
        _wishes({"outputs": outputs})


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_no_json_makes_anything_but_a_refusal(value: Any) -> None:
    keys = ["id", "parameters", "inputs", "outputs"]
    documents = [value, *({"inputs": [ONE], key: value} for key in keys), {"inputs": [ONE | {"data": value}]}]
    documents += [{"inputs": [ONE | {key: value}]} for key in ("name", "shape", "datatype", "parameters")]
    for document in documents:
        try:
            request, rest = protocol.parse(json.dumps(document).encode(), None)
            protocol.wishes_of(request, ["is"])
            protocol.inputs_of(request, rest, [IMAGE], 4)
        except InferenceRefused as error:
            assert error.code == "inference_invalid" and str(error)

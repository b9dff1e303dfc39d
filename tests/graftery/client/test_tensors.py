from __future__ import annotations

import json

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graftery.client.tensors import LENGTH_HEADER, arrange, decode, encode
from graftery.errors import InferenceRefused, ServiceError

X0 = {"name": "x0", "datatype": "FP32", "shape": [-1, 2]}
REQUEST = httpx.Request("POST", "http://here/v2/models/m/infer")
KINDS = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "UINT8": np.uint8, "BOOL": np.bool_}


def answer(header: dict[str, object], tail: bytes = b"", *, binary: bool = True) -> httpx.Response:
    text = json.dumps(header).encode()
    return httpx.Response(
        200, content=text + tail, headers={LENGTH_HEADER: str(len(text))} if binary else {}, request=REQUEST
    )


@given(st.data(), st.sampled_from(sorted(KINDS)), hnp.array_shapes(max_dims=4))
def test_what_is_encoded_decodes_to_the_same(data: st.DataObject, kind: str, shape: tuple[int, ...]) -> None:
    x = data.draw(hnp.arrays(KINDS[kind], shape))
    flipped = np.ascontiguousarray(np.flip(x))
    body, headers = encode({"a": (kind, x), "b": (kind, flipped)})
    end = int(headers[LENGTH_HEADER])
    outputs = {"outputs": json.loads(body[:end])["inputs"]}
    arrays = decode(answer(outputs, body[end:]))
    np.testing.assert_array_equal(arrays["a"], x)
    np.testing.assert_array_equal(arrays["b"], flipped)
    assert arrays["a"].dtype == x.dtype


def test_the_request_asks_for_binary_outputs() -> None:
    body, headers = encode(arrange([[1, 2], [3, 4]], [X0]))
    header = json.loads(body[: int(headers[LENGTH_HEADER])])
    assert header["parameters"] == {"binary_data_output": True}
    assert header["inputs"] == [
        {"name": "x0", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    ]
    assert body[-16:] == np.array([1, 2, 3, 4], "<f4").tobytes()


def test_arrays_take_the_model_s_dtype() -> None:
    assert arrange(np.zeros((1, 2)), [X0])["x0"][1].dtype == np.float32
    assert arrange({"x0": np.zeros((1, 2), np.uint8)}, [X0])["x0"][1].dtype == np.float32
    strided = np.zeros((2, 4), np.float32)[:, ::2]
    assert arrange(strided, [X0])["x0"][1].flags.c_contiguous


@pytest.mark.parametrize(
    ("x", "inputs", "text"),
    [
        ({"y": [1.0]}, [X0], "inputs are x0, got y"),
        ({}, [X0], "got none"),
        ([1.0], [X0, X0 | {"name": "x1"}], "has 2 inputs"),
        ([1.5], [X0 | {"datatype": "INT64"}], "float64 cannot become that"),
        (["cat"], [X0], "cannot become that"),
        ([1.0], [X0 | {"datatype": "BYTES"}], "cannot send"),
    ],
)
def test_what_does_not_fit_is_refused_here(x: object, inputs: list[dict[str, object]], text: str) -> None:
    with pytest.raises(InferenceRefused, match=text):
        arrange(x, inputs)


def test_outputs_in_json() -> None:
    document = {"outputs": [{"name": "is", "datatype": "FP32", "shape": [2, 1], "data": [0.5, -1]}]}
    np.testing.assert_array_equal(decode(answer(document, binary=False))["is"], np.array([[0.5], [-1]], np.float32))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"outputs": [{"name": "a", "datatype": "FP32", "shape": [3], "data": [1]}]},
        {"outputs": [{"name": "a", "datatype": "FP8", "shape": [1], "data": [1]}]},
        {"outputs": [{"name": "a", "datatype": "FP32", "shape": [9], "parameters": {"binary_data_size": 36}}]},
    ],
)
def test_an_answer_of_another_protocol_is_named(document: dict[str, object]) -> None:
    with pytest.raises(ServiceError, match="cannot be read"):
        decode(answer(document))

"""Messages to questions and answers to messages, in every datatype and both forms."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from graftery.errors import InferenceRefused
from graftery.spec.manifest import OutputSpec
from serving.asking import Answer
from serving.branches import Branch, Model, Output
from serving.grpc import calls, tensors
from serving.grpc.messages import message
from serving.protocol import Declared
from serving.tensors import DTYPES, to_binary

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    **{f"INT{bits}": [-(2 ** (bits - 1)), 0, 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": [0, 1, 2**bits - 1] for bits in (8, 16, 32, 64)},
    "FP16": [0.5, -2.0, 65504.0],
    "BF16": [0x3F80, 0, 0xBF80],
    "FP32": [0.1, -1e30, 3.0],
    "FP64": [0.1, -1e300, 3.0],
}
TYPED = sorted(set(VALUES) - {"FP16", "BF16"})


def model_of(datatype: str) -> Model:
    declared = Declared("input", datatype, (-1, 3))
    spec = OutputSpec(dtype="float32", shape=("N", 3), semantics="regression")
    output = Output(Declared("y", datatype, (-1, 3)), "y", spec)
    return Model("m", 1, "digest", declared, None, (Branch(None, "task", (output,)),), {})


def request_of(datatype: str, shape: tuple[int, ...] = (1, 3)) -> Any:
    request = message("ModelInferRequest")(model_name="m", id="5")
    request.inputs.add(name="input", datatype=datatype, shape=shape)
    return request


def typed(datatype: str, values: list[Any], field: str | None = None) -> Any:
    request = request_of(datatype)
    getattr(request.inputs[0].contents, field or tensors.CONTENTS[datatype]).extend(values)
    return request


@pytest.mark.parametrize("datatype", sorted(VALUES))
def test_raw_bytes_in_every_datatype(datatype: str) -> None:
    x = np.array([VALUES[datatype]], DTYPES[datatype])
    request = request_of(datatype)
    request.raw_input_contents.append(to_binary(x, datatype))
    found = tensors.read(request, model_of(datatype), 8, None)
    np.testing.assert_array_equal(found.question.x, x)
    assert found.question.x.dtype == DTYPES[datatype] and found.raw and found.question.wanted == ("y",)
    reply = tensors.response(Answer(model_of(datatype), {"y": x}), "5", raw=True)
    assert reply.raw_output_contents[0] == to_binary(x, datatype) and reply.id == "5"
    assert (reply.outputs[0].datatype, list(reply.outputs[0].shape)) == (datatype, [1, 3])


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_in_every_datatype_that_has_them(datatype: str) -> None:
    x = np.array([VALUES[datatype]], DTYPES[datatype])
    found = tensors.read(typed(datatype, VALUES[datatype]), model_of(datatype), 8, None)
    np.testing.assert_array_equal(found.question.x, x)
    assert not found.raw
    reply = tensors.response(Answer(model_of(datatype), {"y": x}), "", raw=False)
    np.testing.assert_array_equal(getattr(reply.outputs[0].contents, tensors.CONTENTS[datatype]), x[0])
    assert not reply.raw_output_contents


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_what_typed_contents_cannot_hold_is_answered_raw(datatype: str) -> None:
    x = np.array([VALUES[datatype]], DTYPES[datatype])
    reply = tensors.response(Answer(model_of(datatype), {"y": x}), "", raw=False)
    assert list(reply.raw_output_contents) == [to_binary(x, datatype)]
    with pytest.raises(InferenceRefused, match=f"input 'input': typed contents have no place for '{datatype}'"):
        tensors.read(request_of(datatype), model_of(datatype), 8, None)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (typed("INT8", [1, 2, 128]), "outside the range of INT8"),
        (typed("UINT16", [1, 2, 70000]), "outside the range of UINT16"),
        (typed("FP32", [1.0, 2.0]), r"shape \[1, 3\] takes 3 numbers, got 2 in fp32_contents"),
        (typed("FP32", [1, 2, 3], "int_contents"), "expected fp32_contents for FP32, got int_contents"),
        (typed("FP32", [1.0, float("nan"), 3.0]), "expected finite FP32 numbers"),
        (request_of("FP31"), "typed contents have no place for 'FP31'"),
        (request_of("FP32", (-1, 3)), r"shape \[-1, 3\] takes -3 numbers"),
        (message("ModelInferRequest")(), "inputs: "),
    ],
)
def test_refusals_name_the_tensor_and_what_was_expected(request_: Any, said: str) -> None:
    datatype = request_.inputs[0].datatype if request_.inputs else "FP32"
    with pytest.raises(InferenceRefused, match=said):
        tensors.read(request_, model_of(datatype if datatype in DTYPES else "FP32"), 8, None)


def many_inputs() -> Any:
    request = message("ModelInferRequest")(model_name="m")
    for _ in range(65):
        request.inputs.add(name="input")
    return request


def many_outputs() -> Any:
    request = request_of("FP32")
    for _ in range(1025):
        request.outputs.add(name="y")
    return request


def many_parameters() -> Any:
    request = request_of("FP32")
    for n in range(1025):
        request.inputs[0].parameters[str(n)].bool_param = True
    return request


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (many_inputs(), "inputs: expected at most 64, got 65"),
        (many_outputs(), "outputs: expected at most 1024, got 1025"),
        (many_parameters(), r"inputs\[0\].parameters: expected at most 1024, got 1025"),
        # The product of millions of sizes would take hours.
        (request_of("FP32", (2**62,) * 2_000_000), r"inputs\[0\].shape: expected at most 8, got 2000000"),
    ],
)
def test_more_of_anything_than_a_request_may_have_is_refused_unread(
    request_: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "read", None)
    with pytest.raises(InferenceRefused, match=said):
        asyncio.run(calls._read(cast(Any, None), request_, lambda: tensors.read(request_, model_of("FP32"), 8, None)))


def test_raw_and_typed_do_not_mix() -> None:
    request = typed("FP32", [1.0, 2.0, 3.0])
    request.raw_input_contents.append(bytes(12))
    with pytest.raises(InferenceRefused, match="has contents beside raw_input_contents"):
        tensors.read(request, model_of("FP32"), 8, None)
    request.raw_input_contents.append(b"")
    with pytest.raises(InferenceRefused, match="expected one for each of 1 inputs, got 2"):
        tensors.read(request, model_of("FP32"), 8, None)


def test_the_shorter_of_timeout_and_deadline_counts() -> None:
    request = typed("FP32", [1.0, 2.0, 3.0])
    request.parameters["timeout"].uint64_param = 2_000_000
    limits = [tensors.read(request, model_of("FP32"), 8, left).question.timeout_s for left in (None, 5.0, 0.5)]
    assert limits == [2.0, 2.0, 0.5]

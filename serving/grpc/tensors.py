"""ModelInferRequest to a question, and an answer to ModelInferResponse: raw bytes or typed contents, as the request has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from graftery.errors import InferenceRefused
from serving import encoded, protocol, tensors
from serving.asking import Answer, Question
from serving.branches import Model
from serving.grpc.messages import InferResponse, Message
from serving.tensors import Array

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    encoded.BYTES: "bytes_contents",
}
"""Where typed contents have a datatype; FP16 and BF16 have no place."""
MOST_PARAMETERS = 1024


@dataclass(frozen=True)
class Read:
    """A request that was read; `raw` says in which form it came, which is the form of the answer."""

    question: Question
    raw: bool


def read(request: Message, model: Model, max_batch: int, deadline_s: float | None) -> Read:
    """Check a request, whose counts were checked, against its model, by the rules of the HTTP form.

    Args:
        deadline_s: what is left of the call's deadline.

    Raises:
        InferenceRefused
        Unavailable: an output is not ready.
    """
    raw = bool(request.raw_input_contents)
    pieces = _raw_pieces(request) if raw else [_typed_piece(tensor) for tensor in request.inputs]
    asked = _asked(request, [len(piece) for piece in pieces])
    wishes = protocol.wishes_of(asked, model.outputs, model.why_unready)
    declared = model.asked(wishes).input
    binary = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    arrays = protocol.inputs_of(asked, binary, [declared], max_batch)
    limits_s = [limit for limit in (protocol.timeout_of(asked), deadline_s) if limit is not None]
    return Read(Question(arrays[declared.name], tuple(wishes), min(limits_s, default=None)), raw)


def check_counts(request: Message) -> None:
    """Refuse more tensors, outputs, sizes or parameters than a request may have, before any of them is looked at.

    Raises:
        InferenceRefused
    """
    _check_count("inputs", request.inputs, protocol.MOST_INPUTS)
    _check_count("outputs", request.outputs, protocol.MOST_WISHES)
    _check_count("parameters", request.parameters, MOST_PARAMETERS)
    for index, tensor in enumerate(request.inputs):
        _check_count(f"inputs[{index}].shape", tensor.shape, protocol.MOST_SIZES)
        _check_count(f"inputs[{index}].parameters", tensor.parameters, MOST_PARAMETERS)


def _check_count(where: str, items: Sized, most: int) -> None:
    if len(items) > most:
        raise InferenceRefused(f"{where}: expected at most {most}, got {len(items)}")


def response(answer: Answer, request_id: str, raw: bool) -> Message:
    """The outputs as they were asked for. Those that typed contents cannot hold make all of them raw."""
    model = answer.model
    reply = InferResponse(model_name=model.name, model_version=model.version, id=request_id)
    datatypes = {name: model.outputs[name].declared.datatype for name in answer.outputs}
    raw = raw or not all(datatype in CONTENTS for datatype in datatypes.values())
    for name, array in answer.outputs.items():
        output = reply.outputs.add(name=name, datatype=datatypes[name], shape=array.shape)
        if raw:
            reply.raw_output_contents.append(tensors.to_binary(array, datatypes[name]))
        else:
            getattr(output.contents, CONTENTS[datatypes[name]]).extend(array.ravel().tolist())
    return reply


def _asked(request: Message, sizes: Sequence[int]) -> protocol.InferRequest:
    inputs = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype,
            "parameters": _values(tensor.parameters) | {"binary_data_size": size},
        }
        for tensor, size in zip(request.inputs, sizes, strict=True)
    ]
    outputs = [{"name": wish.name, "parameters": _values(wish.parameters)} for wish in request.outputs]
    document = {"parameters": _values(request.parameters), "inputs": inputs, "outputs": outputs}
    try:
        return protocol.InferRequest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        raise InferenceRefused(f"{place or 'the request'}: {first['msg']}") from None


def _values(parameters: Mapping[str, Message]) -> dict[str, Any]:
    chosen = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}
    return {name: getattr(value, choice) if choice else None for name, (value, choice) in chosen.items()}


def _raw_pieces(request: Message) -> Sequence[bytes]:
    inputs, pieces = request.inputs, request.raw_input_contents
    if len(inputs) != len(pieces):
        raise InferenceRefused(f"raw_input_contents: expected one for each of {len(inputs)} inputs, got {len(pieces)}")
    for tensor in inputs:
        if tensor.HasField("contents"):
            raise InferenceRefused(f"input {tensor.name!r}: has contents beside raw_input_contents, expected one form")
    found: Sequence[bytes] = pieces
    return found


def _typed_piece(tensor: Message) -> bytes:
    """Typed contents as the bytes that the raw form would have."""
    where = f"input {tensor.name!r}"
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise InferenceRefused(f"{where}: typed contents have no place for {tensor.datatype!r}; send it raw")
    for other, values in tensor.contents.ListFields():
        if other.name != field and values:
            raise InferenceRefused(f"{where}: expected {field} for {tensor.datatype}, got {other.name}")
    values = getattr(tensor.contents, field)
    if tensor.datatype == encoded.BYTES:
        return encoded.to_binary(values)
    if len(values) != math.prod(tensor.shape):
        expected = f"shape {list(tensor.shape)} takes {math.prod(tensor.shape)} numbers"
        raise InferenceRefused(f"{where}: {expected}, got {len(values)} in {field}")
    return tensors.to_binary(_narrowed(np.array(values, _WIDE[field]), tensor.datatype, where), tensor.datatype)


_WIDE = {
    "bool_contents": np.bool_,
    "int_contents": np.int32,
    "int64_contents": np.int64,
    "uint_contents": np.uint32,
    "uint64_contents": np.uint64,
    "fp32_contents": np.float32,
    "fp64_contents": np.float64,
}


def _narrowed(array: Array, datatype: str, where: str) -> Array:
    """INT8 crosses as 32 bits, so a number can be too large for it."""
    narrow = array.astype(tensors.DTYPES[datatype])
    if array.dtype.kind in "iu" and not np.array_equal(narrow, array):
        raise InferenceRefused(f"{where}: a number in contents is outside the range of {datatype}")
    return narrow

"""The infer request in the Open Inference Protocol (KServe V2) with Triton's binary tensors. No torch.

A body is JSON, or, where the header `Inference-Header-Content-Length` says how long the JSON is, JSON and then the
tensors' bytes in the order in which the JSON names them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from reprlib import repr as shown  # of what may be nested a thousand deep
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StrictInt, StrictStr, ValidationError

from graftery.errors import InferenceRefused, Unavailable
from serving import bounds, encoded, images, quick, tensors
from serving.images import ImageForm
from serving.tensors import Array

Size = Annotated[StrictInt, Field(ge=0, le=2**40)]
Text = Annotated[StrictStr, Field(max_length=300)]
MOST_INPUTS, MOST_WISHES, MOST_SIZES = 64, 1024, 8
"""Tensors of a request, outputs that it names, sizes of a shape."""
MOST_NAMED = 50
"""Outputs that are named where another one was asked for."""
_SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


class InputTensor(BaseModel):
    """`data` in JSON, or `parameters.binary_data_size` bytes behind the JSON part."""

    name: Text
    shape: list[Size] = Field(max_length=MOST_SIZES)
    datatype: Text
    parameters: dict[str, Any] = {}
    data: list[Any] | None = Field(None, description="Row-major, flat or nested; of BYTES, base64")
    _numbers: Array | None = PrivateAttr(None)
    """`data` as an array [count], where it was read without a Python object for each number."""

    @property
    def has_data(self) -> bool:
        return self.data is not None or self._numbers is not None


class OutputWish(BaseModel):
    name: Text
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """Fields that nobody knows are ignored, as other servers of the protocol do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "42",
                    "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}],
                    "outputs": [{"name": "is"}],
                }
            ]
        }
    )

    id: Text | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor] = Field(min_length=1, max_length=MOST_INPUTS)
    outputs: list[OutputWish] | None = Field(None, max_length=MOST_WISHES)


@dataclass(frozen=True)
class Declared:
    """A tensor that a model takes or gives. The shape has -1 for the batch, which is first, and for free sizes.

    `image` says how encoded images, sent as BYTES, become it; None where they do not.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    image: ImageForm | None = None

    def __str__(self) -> str:
        free = iter("HW")
        rest = [str(size) if size >= 0 else next(free, "any") for size in self.shape[1:]]
        return f"[{', '.join(['N', *rest])}]"


def parse(body: bytes, header_length: str | None) -> tuple[InferRequest, memoryview]:
    """Split a body into the request and the bytes behind it.

    Args:
        body: the whole body, uncompressed.
        header_length: the value of `Inference-Header-Content-Length`, if it was sent.

    Raises:
        InferenceRefused: `request_too_large` where the JSON would become too much once it is read.
    """
    length = _json_length(header_length, len(body))
    try:
        request = _request(body[:length])
    except ValidationError as error:
        raise InferenceRefused(_first(error)) from None
    except (ValueError, RecursionError) as error:
        raise InferenceRefused(f"the request's JSON cannot be read: {error}") from None
    return request, memoryview(body)[length:]


def _request(text: bytes) -> InferRequest:
    bounds.check(text)
    document = quick.read(text) if len(text) >= quick.LEAST_BYTES else None
    if document is None:
        # As json.loads does, which would make a decoder for every text.
        plain = text.decode(json.detect_encoding(text), "surrogatepass")
        return InferRequest.model_validate(_DECODER.decode(plain))
    numbers = [tensor.pop("data", None) for tensor in document["inputs"]]
    request = InferRequest.model_validate(document)
    for tensor, each in zip(request.inputs, numbers, strict=True):
        tensor._numbers = each
    return request


def inputs_of(
    request: InferRequest, binary: memoryview, declared: Sequence[Declared], max_batch: int
) -> dict[str, Array]:
    """The arrays of a request by input name, each checked against what the model declares."""
    by_name = {tensor.name: tensor for tensor in declared}
    _check_names([tensor.name for tensor in request.inputs], by_name)
    for tensor in request.inputs:
        _check_declared(tensor, by_name[tensor.name], max_batch)
    arrays = {}
    for tensor, raw in zip(request.inputs, _pieces(request.inputs, binary), strict=True):
        where = f"input {tensor.name!r}"
        arrays[tensor.name] = _array(tensor, raw, by_name[tensor.name].image, where)
        tensors.check_finite(arrays[tensor.name], by_name[tensor.name].datatype, where)
    return arrays


def wishes_of(
    request: InferRequest, names: Collection[str], why_unready: Callable[[str], str | None] = lambda _: None
) -> dict[str, bool]:
    """Which outputs are wanted, and of each whether as bytes. All of them where the request names none.

    Args:
        names: of a dict or a set, as each wish is looked up in it.
        why_unready: why there is no output of this name yet; None: there will be none.

    Raises:
        InferenceRefused
        Unavailable: `not_ready`: an output is not there yet.
    """
    default = _flag(request.parameters, "binary_data_output", False, "parameters")
    wishes: dict[str, bool] = {}
    for wish in request.outputs or []:
        where = f"output {wish.name!r}"
        if wish.name not in names:
            _refuse_unknown(wish.name, names, why_unready(wish.name))
        if wish.name in wishes:
            raise InferenceRefused(f"{where}: requested twice")
        _refuse_extensions(wish.parameters, where)
        wishes[wish.name] = _flag(wish.parameters, "binary_data", default, where)
    return wishes or dict.fromkeys(names, default)


def _refuse_unknown(name: str, names: Collection[str], why_unready: str | None) -> NoReturn:
    if why_unready is not None:
        raise Unavailable(f"output {name!r} is not ready: {why_unready}", code="not_ready")
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    there = ", ".join(map(repr, islice(names, MOST_NAMED)))
    raise InferenceRefused(f"output {name!r}: the model has no such output; it has {there}{more}")


def timeout_of(request: InferRequest) -> float | None:
    """Seconds that the request may wait: Triton's parameter `timeout`, in whole microseconds; 0 is none."""
    value = request.parameters.get("timeout", 0)
    if type(value) is not int or not 0 <= value < 2**64:
        raise InferenceRefused(f"parameters: timeout: expected a whole number of microseconds, got {shown(value)}")
    return value / 1e6 if value else None


def _json_length(header_length: str | None, body_length: int) -> int:
    if header_length is None:
        return body_length
    # ASCII digits only: int() would take signs, spaces, underscores and other scripts' digits too.
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) <= 12):
        raise InferenceRefused(f"Inference-Header-Content-Length: expected a number of bytes, got {header_length!r}")
    if int(header_length) > body_length:
        raise InferenceRefused(f"Inference-Header-Content-Length: {header_length} is beyond the body of {body_length}")
    return int(header_length)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _first(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problems[0]["loc"]).lstrip(".")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place or 'the request'}: {problems[0]['msg']}{more}"


def _check_names(got: Sequence[str], declared: dict[str, Declared]) -> None:
    expected = ", ".join(map(repr, declared))
    for name in got:
        if name not in declared:
            raise InferenceRefused(f"input {name!r}: the model has no such input; expected {expected}")
        if got.count(name) > 1:
            raise InferenceRefused(f"input {name!r}: given {got.count(name)} times, expected once")
    for name in declared:
        if name not in got:
            raise InferenceRefused(f"input {name!r}: missing; expected {expected}")


def _check_declared(tensor: InputTensor, declared: Declared, max_batch: int) -> None:
    where = f"input {tensor.name!r}"
    if tensor.datatype == encoded.BYTES and declared.image is not None:
        return encoded.check_shape(tensor.shape, max_batch, where)
    if tensor.datatype != declared.datatype:
        expected = declared.datatype if declared.image is None else f"{declared.datatype}, or BYTES for encoded images"
        raise InferenceRefused(f"{where}: expected datatype {expected}, got {tensor.datatype!r}")
    fits = len(tensor.shape) == len(declared.shape) and all(
        got == expected if expected >= 0 else got >= 1
        for got, expected in zip(tensor.shape, declared.shape, strict=True)
    )
    if not fits:
        raise InferenceRefused(f"{where}: expected shape {declared} with sizes of 1 or more, got {tensor.shape}")
    if tensor.shape[0] > max_batch:
        raise InferenceRefused(f"{where}: expected a batch of at most {max_batch}, got {tensor.shape[0]}")


def _pieces(inputs: Sequence[InputTensor], binary: memoryview) -> list[memoryview | None]:
    """The bytes of each input, None for those in JSON; every byte belongs to one input."""
    pieces: list[memoryview | None] = []
    start = 0
    for tensor in inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            pieces.append(None)
            continue
        if type(size) is not int or size < 0:
            raise InferenceRefused(
                f"input {tensor.name!r}: binary_data_size: expected a number of bytes, got {shown(size)}"
            )
        if size > len(binary) - start:
            left = len(binary) - start
            raise InferenceRefused(
                f"input {tensor.name!r}: binary_data_size is {size}, but {left} bytes follow the JSON part",
                hint="Inference-Header-Content-Length says where the JSON part ends",
            )
        pieces.append(binary[start : start + size])
        start += size
    if start != len(binary):
        raise InferenceRefused(f"{len(binary) - start} bytes behind the JSON part belong to no input")
    return pieces


def _array(tensor: InputTensor, raw: memoryview | None, image: ImageForm | None, where: str) -> Array:
    _refuse_extensions(tensor.parameters, where)
    if raw is not None and tensor.has_data:
        raise InferenceRefused(f"{where}: has both data and binary_data_size, expected one of them")
    if image is not None and tensor.datatype == encoded.BYTES:
        return images.decode(encoded.rows(tensor.data, raw, tensor.shape[0], where), image, where)
    if raw is not None:
        return tensors.from_binary(raw, tensor.datatype, tensor.shape, where)
    if tensor._numbers is not None:
        return tensors.from_numbers(tensor._numbers, tensor.datatype, tensor.shape, where)
    if tensor.data is None:
        raise InferenceRefused(f"{where}: has neither data nor binary_data_size")
    return tensors.from_json(tensor.data, tensor.datatype, tensor.shape, where)


def _refuse_extensions(parameters: dict[str, Any], where: str) -> None:
    if any(name in parameters for name in _SHARED_MEMORY):
        raise InferenceRefused(f"{where}: shared memory is not supported; send the tensor in the body")
    if parameters.get("classification"):
        raise InferenceRefused(f"{where}: the classification extension is not supported; ask for the scores themselves")


def _flag(parameters: dict[str, Any], name: str, default: bool, where: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InferenceRefused(f"{where}: {name}: expected true or false, got {shown(value)}")
    return value

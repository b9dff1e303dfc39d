"""The Open Inference Protocol's tensors: a request with binary arrays, and the arrays of its answer.

The body is a JSON header, then the tensors' bytes one after another, little-endian and row-major; the HTTP header
`Inference-Header-Content-Length` says where the JSON ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from graftery.errors import InferenceRefused, ServiceError

Array = NDArray[Any]
LENGTH_HEADER = "Inference-Header-Content-Length"
_DTYPES = {
    "BOOL": "|b1",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


def arrange(
    x: ArrayLike | Mapping[str, ArrayLike], inputs: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[str, Array]]:
    """Arrays by input name, as the model's metadata wants them: name -> (datatype, array).

    Raises:
        InferenceRefused: names or dtypes do not fit (float64 becomes float32, a float never becomes an integer).
    """
    names = [entry["name"] for entry in inputs]
    if not isinstance(x, Mapping):
        if len(names) != 1:
            raise InferenceRefused(f"the model has {len(names)} inputs", hint=f"give a dict with {', '.join(names)}")
        x = {names[0]: x}
    if set(x) != set(names):
        raise InferenceRefused(f"the model's inputs are {', '.join(names)}, got {', '.join(x) or 'none'}")
    return {entry["name"]: (entry["datatype"], _cast(x[entry["name"]], entry)) for entry in inputs}


def encode(
    arrays: Mapping[str, tuple[str, Array]], outputs: Sequence[str] | None = None
) -> tuple[bytes, dict[str, str]]:
    """The body of an infer request, and its headers; these outputs, or all, are asked for in binary."""
    entries = [
        {"name": name, "shape": array.shape, "datatype": datatype, "parameters": {"binary_data_size": array.nbytes}}
        for name, (datatype, array) in arrays.items()
    ]
    document: dict[str, Any] = {"inputs": entries, "parameters": {"binary_data_output": True}}
    if outputs is not None:
        document["outputs"] = [{"name": name} for name in outputs]
    header = json.dumps(document).encode()
    body = b"".join([header, *(array.tobytes() for _, array in arrays.values())])
    return body, {LENGTH_HEADER: str(len(header)), "Content-Type": "application/octet-stream"}


def decode(response: httpx.Response) -> dict[str, Array]:
    """The arrays of an infer answer by output name, binary or JSON.

    Raises:
        ServiceError: the answer is not of the protocol.
    """
    body = response.content
    end = int(response.headers.get(LENGTH_HEADER, len(body)))
    arrays = {}
    try:
        for entry in json.loads(body[:end])["outputs"]:
            size_bytes = entry.get("parameters", {}).get("binary_data_size")
            dtype = np.dtype(_DTYPES[entry["datatype"]])
            if size_bytes is None:
                flat = np.asarray(entry["data"], dtype)
            else:
                flat = np.frombuffer(body, dtype, size_bytes // dtype.itemsize, end).copy()
                end += size_bytes
            arrays[entry["name"]] = flat.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"the answer of {response.request.url} cannot be read: {error}") from error
    return arrays


def version_of(response: httpx.Response) -> str | None:
    """The version that answered, where the answer names it."""
    header = response.content[: int(response.headers.get(LENGTH_HEADER, len(response.content)))]
    version: str | None = json.loads(header).get("model_version")
    return version


def _cast(x: ArrayLike, entry: Mapping[str, Any]) -> Array:
    dtype = _DTYPES.get(entry["datatype"])
    if dtype is None:
        raise InferenceRefused(f"input {entry['name']} has datatype {entry['datatype']}, which this client cannot send")
    array = np.asarray(x)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InferenceRefused(f"input {entry['name']} is {entry['datatype']}; {array.dtype} cannot become that")
    return np.ascontiguousarray(array, dtype=dtype)

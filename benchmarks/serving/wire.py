"""Requests as bytes, and numbers out of replies: every contender's own form for the same rows. Needs numpy alone."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Packed = tuple[bytes, dict[str, str]]
"""A body and its headers."""
HEADER_LENGTH = "Inference-Header-Content-Length"
JSON = {"Content-Type": "application/json"}


def request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _input(shape: tuple[int, ...], datatype: str, **more: Any) -> dict[str, Any]:
    return {"name": "input", "shape": list(shape), "datatype": datatype, **more}


def _binary(head: dict[str, Any], tail: bytes) -> Packed:
    start = _compact(head)
    return start + tail, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(start))}


def v2_json(x: Array, _model: str, _jpeg: bytes) -> Packed:
    return _compact({"inputs": [_input(x.shape, "FP32", data=x.ravel().tolist())]}), JSON


def v2_binary(x: Array, _model: str, _jpeg: bytes) -> Packed:
    tensor = _input(x.shape, "FP32", parameters={"binary_data_size": x.nbytes})
    return _binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, x.tobytes())


def v2_jpeg(_x: Array, _model: str, jpeg: bytes) -> Packed:
    """One BYTES element behind the JSON part, its length in front, as Triton's clients send it."""
    tail = struct.pack("<I", len(jpeg)) + jpeg
    tensor = _input((1,), "BYTES", parameters={"binary_data_size": len(tail)})
    return _binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, tail)


def v2_jpeg_base64(_x: Array, _model: str, jpeg: bytes) -> Packed:
    data = [base64.b64encode(jpeg).decode()]
    return _compact({"inputs": [_input((1,), "BYTES", parameters={"content_type": "base64"}, data=data)]}), JSON


def flat_json(x: Array, model: str, _jpeg: bytes) -> Packed:
    return _compact({"model": model, "x": x.ravel().tolist()}), JSON


def rows_json(x: Array, _model: str, _jpeg: bytes) -> Packed:
    return _compact({"x": x.reshape(len(x), -1).tolist()}), JSON


def jpeg_base64(_x: Array, model: str, jpeg: bytes) -> Packed:
    return _compact({"model": model, "image": base64.b64encode(jpeg).decode()}), JSON


def jpeg_body(_x: Array, _model: str, jpeg: bytes) -> Packed:
    return jpeg, {"Content-Type": "image/jpeg"}


def raw(x: Array, _model: str, _jpeg: bytes) -> Packed:
    return x.tobytes(), {"Content-Type": "application/octet-stream"}


FORMS: dict[str, Callable[[Array, str, bytes], Packed]] = {
    "v2-json": v2_json,
    "v2-binary": v2_binary,
    "v2-jpeg": v2_jpeg,
    "v2-jpeg-base64": v2_jpeg_base64,
    "flat-json": flat_json,
    "rows-json": rows_json,
    "jpeg-base64": jpeg_base64,
    "jpeg-body": jpeg_body,
    "raw": raw,
}


def numbers(head: bytes, body: bytes) -> Array:
    """All numbers of a reply, flat; several outputs in the order of their names.

    Raises:
        ValueError: it has none of the forms that the contenders answer in.
    """
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    lengths = {name.lower(): value for name, value in fields.items()}
    length = lengths.get(HEADER_LENGTH.lower().encode())
    if length is not None:
        return _from_binary(json.loads(body[: int(length)]), body[int(length) :])
    if lengths.get(b"content-type", b"").startswith(b"application/octet-stream"):
        return np.frombuffer(body, np.float32)
    document = json.loads(body)
    if isinstance(document, dict) and "outputs" in document:
        outputs = sorted(document["outputs"], key=lambda output: output["name"])
        return np.concatenate([np.asarray(output["data"], np.float32).ravel() for output in outputs])
    return np.asarray(document["y"] if isinstance(document, dict) else document, np.float32).ravel()


def _from_binary(document: dict[str, Any], tail: bytes) -> Array:
    found, at = {}, 0
    for output in document["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = np.frombuffer(tail[at : at + size], np.float32)
        at += size
    return np.concatenate([found[name] for name in sorted(found)])

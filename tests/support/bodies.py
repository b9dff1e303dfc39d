"""Infer requests that are nearly right: valid ones, and strategies that break them in one or several places."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator, MutableMapping, MutableSequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from serving import encoded
from tests.support.pictures import encoded_image, png
from tests.support.world import ANY_SIZE, NETWORK, PHOTO, images

LENGTH = "Inference-Header-Content-Length"
DATATYPES = ["BOOL", "INT8", "INT64", "UINT8", "UINT64", "FP16", "BF16", "FP32", "FP64", "BYTES", "fp32", "FP31", ""]
DEEP = 1200


@dataclass(frozen=True)
class Body:
    """A request: the JSON part as a document (or as text, once it was broken there), and the bytes behind it."""

    model: str
    document: Any
    binary: bytes | None = None
    text: bytes | None = None
    length: str | None = None
    encoding: str | None = None
    packed: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def sent(self) -> tuple[bytes, dict[str, str]]:
        head = self.text if self.text is not None else written(self.document)
        headers = dict(self.headers)
        if self.length is not None:
            headers[LENGTH] = self.length
        elif self.binary is not None:
            headers[LENGTH] = str(len(head))
        if self.encoding is not None:
            headers["Content-Encoding"] = self.encoding
        return (self.packed if self.packed is not None else head + (self.binary or b"")), headers


class Raw(str):
    """JSON text that stands in a document as it is: numbers that Python's writer would not write."""


def written(document: Any) -> bytes:
    if isinstance(document, Raw):
        return document.encode()
    if isinstance(document, dict):
        return b"{" + b",".join(json.dumps(key).encode() + b":" + written(document[key]) for key in document) + b"}"
    if isinstance(document, list):
        return b"[" + b",".join(map(written, document)) + b"]"
    return json.dumps(document).encode()


def tensor(datatype: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": "input", "datatype": datatype, "shape": shape, **more}


def valid() -> list[Body]:
    """Requests that are answered 200: JSON and binary, numbers and images, with all that a request may have."""
    x = images(2)
    rows = [encoded_image((9, 7)), encoded_image((20, 30), format="JPEG")]
    packed = encoded.to_binary(rows)
    texts = [base64.b64encode(row).decode() for row in rows]
    more = {"id": "7", "outputs": [{"name": "is", "parameters": {"binary_data": True}}]}
    sized = {"parameters": {"binary_data_size": x.nbytes}}
    image_size = {"parameters": {"binary_data_size": len(packed)}}
    grey = encoded.to_binary([encoded_image((12, 9))])
    grey_size = {"parameters": {"binary_data_size": len(grey)}}
    free = np.zeros((1, 1, 6, 9), "<f4")
    return [
        Body(NETWORK, {"inputs": [tensor("FP32", [2, 1, 8, 8], data=x.ravel().tolist())]}),
        Body(NETWORK, more | {"inputs": [tensor("FP32", [2, 1, 8, 8], data=x.tolist())], "parameters": {"timeout": 0}}),
        Body(NETWORK, {"inputs": [tensor("FP32", [2, 1, 8, 8], **sized)]}, x.tobytes()),
        Body(NETWORK, more | {"inputs": [tensor("FP32", [2, 1, 8, 8], **sized)]}, x.tobytes()),
        Body(PHOTO, {"inputs": [tensor("BYTES", [2], data=texts)]}),
        Body(PHOTO, more | {"inputs": [tensor("BYTES", [2, 1], **image_size)]}, packed),
        Body(ANY_SIZE, {"inputs": [tensor("BYTES", [1], **grey_size)]}, grey),
        Body(ANY_SIZE, {"inputs": [tensor("FP32", [1, 1, 6, 9], data=free.ravel().tolist())]}),
    ]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key in a document; of a long list, its ends."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))[:2] + ([len(value) - 1] if len(value) > 2 else [])
    else:
        return
    for key in keys:
        yield value, key
        yield from _places(value[key])


ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            *(None, True, False, 0, 1, -1, 2, 3, 255, 256, 257, 2**31, 2**40, 2**63, 2**64, 10**30, 0.5, -0.0, 1e300),
            *(Raw(text) for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "01", "1e", "tru")),
            *("", "input", "is", "in\0put", "i" * 301, "\ud800", "ä", [], {}, [[]], [[1, [2]]], {"a": []}, [None]),
            Raw("[" * DEEP + "]" * DEEP),
            Raw("[" * 300 + "]" * 300),
            Raw('{"a":' * 400 + "1" + "}" * 400),
        ]
    ),
    st.sampled_from(DATATYPES),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.lists(st.integers(-2, 300), max_size=5),
)
NAMES = [*("data", "shape", "name", "datatype", "parameters", "binary_data_size", "inputs", "outputs", "id", "timeout")]
NAMES += ["shared_memory_region", "classification", "binary_data", "binary_data_output", "x"]


@st.composite
def changed_documents(draw: st.DrawFn, body: Body) -> Body:
    """Values replaced, left out, doubled, added, wrapped."""
    document = json.loads(json.dumps(body.document))
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(document))
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "replace", "replace", "drop", "double", "add", "wrap"]))
        _apply(draw, container, key, change)
    return replace(body, document=document)


def _apply(draw: st.DrawFn, container: Any, key: Any, change: str) -> None:
    if change == "replace":
        container[key] = deepcopy(draw(ODD))  # the second change may be inside the first
    elif change == "wrap":
        container[key] = [container[key]]
    elif change == "drop":
        del container[key]
    elif isinstance(container, MutableSequence):
        container.insert(key, deepcopy(container[key] if change == "double" else draw(ODD)))
    elif isinstance(container, MutableMapping):
        container[draw(st.sampled_from(NAMES))] = deepcopy(container[key] if change == "double" else draw(ODD))


@st.composite
def broken_bytes(draw: st.DrawFn, raw: bytes) -> bytes:
    """Cut, lengthened, flipped, with bytes put in, taken out or said twice."""
    place = draw(st.integers(0, max(0, len(raw) - 1)))
    change = draw(st.sampled_from(["cut", "flip", "insert", "delete", "twice", "longer"]))
    if change == "cut":
        return raw[:place]
    if change == "flip":
        return raw[:place] + bytes([draw(st.integers(0, 255))]) + raw[place + 1 :]
    if change == "insert":
        return raw[:place] + draw(st.binary(min_size=1, max_size=8)) + raw[place:]
    if change == "delete":
        return raw[:place] + raw[place + draw(st.integers(1, 8)) :]
    return raw + (raw if change == "twice" else draw(st.binary(min_size=1, max_size=8)))


LENGTHS = ["", "0", "-1", "+5", "1_0", " 7", "7.0", "0x10", "²", "٣", "999999999999", "9" * 40, "1", "100", "nan"]


@st.composite
def broken_bodies(draw: st.DrawFn, body: Body) -> Body:
    """The text, the bytes behind it or the stated length broken; or the packing."""
    text = written(body.document)
    where = draw(st.sampled_from(["text", "binary", "length", "packing", "escape"]))
    if where == "binary" and body.binary is not None:
        return replace(body, binary=draw(broken_bytes(body.binary)))
    if where == "length":
        return replace(body, length=draw(st.sampled_from(LENGTHS) | st.integers(0, len(text) + 9).map(str)))
    if where == "escape":
        return replace(body, text=text.replace(b'"BYTES"', b'"\\u0042YTES"').replace(b'"id"', b'"id":"6","id"'))
    if where == "packing":
        return draw(_packed(body, text + (body.binary or b"")))
    return replace(body, text=draw(broken_bytes(text)))


@st.composite
def _packed(draw: st.DrawFn, body: Body, whole: bytes) -> Body:
    name = draw(st.sampled_from(["gzip", "deflate", "br", "gzip, gzip", "GZIP", "identity", "x" * 500]))
    packed = draw(st.sampled_from([gzip.compress(whole), zlib.compress(whole), BOMB, whole, b""]))
    if draw(st.booleans()):
        packed = draw(broken_bytes(packed))
    length = str(len(written(body.document))) if body.binary is not None else None
    return replace(body, packed=packed, encoding=name, length=length)


BOMB = gzip.compress(bytes(80 * 1024**2), 9)
_IMAGES = [
    encoded_image((64, 64)),
    encoded_image((64, 64), format="JPEG"),
    encoded_image(mode="P"),
    encoded_image(mode="RGBA"),
    encoded_image(mode="CMYK", format="JPEG"),
    encoded_image(format="GIF"),
    png(9000, 9000, zlib.compress(bytes(2**16))),
    png(2**31 - 1, 2**31 - 1),
    png(0, 7),
    b"",
]


@st.composite
def image_bodies(draw: st.DrawFn) -> Body:
    """Images cut, damaged or of other kinds, in either form, with wrong prefixes now and then."""
    rows = [
        draw(broken_bytes(raw)) if draw(st.booleans()) else raw
        for raw in draw(st.lists(st.sampled_from(_IMAGES), min_size=1, max_size=3))
    ]
    shape, model = [len(rows)], draw(st.sampled_from([PHOTO, ANY_SIZE]))
    if draw(st.booleans()):
        data = [base64.b64encode(row).decode() for row in rows]
        return Body(model, {"inputs": [tensor("BYTES", shape, data=data)]})
    raw = encoded.to_binary(rows)
    if draw(st.integers(0, 3)) == 0:
        raw = draw(broken_bytes(raw))
    sized = {"parameters": {"binary_data_size": len(raw)}}
    return Body(model, {"inputs": [tensor("BYTES", shape, **sized)]}, raw)

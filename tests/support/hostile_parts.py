"""Building blocks of tests/support/hostile.py: module files and their headers, written byte by byte without torch."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

Write = Callable[[Path], None]
Tensors = dict[str, tuple[str, list[int], bytes]]
MIB = 1024**2


def floats(*shape: int, value: float = 0.0, kind: str = "f") -> bytes:
    return struct.pack(f"<{prod(shape)}{kind}", *[value] * prod(shape))


def tensor(*shape: int, value: float = 0.0) -> tuple[str, list[int], bytes]:
    return "F32", list(shape), floats(*shape, value=value)


def document(nodes: list[Any] | None = None, **changed: Any) -> dict[str, Any]:
    """A good document: one linear layer of 4 to 3, with zero weights."""
    shape_in, shape_out = changed.pop("shape_in", ["N", 4]), changed.pop("shape_out", ["N", 3])
    linear = ["aten.linear.default", "v0", [{"v": "x0"}, {"w": "weight"}]]
    spec = {"dtype": "float32", "shape": shape_in}
    return {
        "format": "graftery",
        "version": 1,
        "manifest": {
            "kind": "category",
            "input": spec,
            "outputs": {"features": {"dtype": "float32", "shape": shape_out}},
        },
        "inputs": [{"id": "x0", **spec}],
        "nodes": [linear] if nodes is None else nodes,
        "outputs": {"features": "v0"},
        "names": {},
        **changed,
    }


def tensors(**changed: Any) -> Tensors:
    """The weights and probe of `document()`; None takes one away."""
    good = {"weight": tensor(3, 4), "probe.x": tensor(2, 4), "probe.y": tensor(2, 3), **changed}
    return {name: value for name, value in good.items() if value is not None}


def header_of(held: Tensors, text: str | None) -> dict[str, Any]:
    header: dict[str, Any] = {} if text is None else {"__metadata__": {"graftery": text}}
    offset = 0
    for name, (dtype, shape, data) in held.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    return header


def packed(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def module(doc: dict[str, Any] | str | None = None, held: Tensors | None = None) -> bytes:
    held = tensors() if held is None else held
    text = doc if isinstance(doc, str) else json.dumps(document() if doc is None else doc)
    return packed(header_of(held, text), b"".join(data for _, _, data in held.values()))


def good() -> bytes:
    """A file that passes every check: what the hostile ones are made from."""
    return module(document(names={"fc": "v0"}))


def writes(make: Callable[[], bytes]) -> Write:
    return lambda path: path.write_bytes(make()) and None


def of_nodes(*nodes: list[Any], code: str, held: dict[str, Any] | None = None, **changed: Any) -> tuple[Write, str]:
    """A file of these nodes; the last one's value, unless `outputs` says otherwise, is the output."""
    changed.setdefault("outputs", {"features": nodes[-1][1]})
    return writes(
        lambda: module(document(list(nodes), **changed), tensors(**({"weight": None} if held is None else held)))
    ), code


def node(op: str, *args: Any, **kwargs: Any) -> list[Any]:
    return [op, "v0", list(args), kwargs] if kwargs else [op, "v0", list(args)]


def of_header(make: Callable[[], bytes], code: str, data: bytes = b"") -> tuple[Write, str]:
    return writes(lambda: packed(make(), data)), code


def sparse(length: int, size: int) -> Write:
    """A file that only says how long it is; its bytes are a hole on the disk."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(length.to_bytes(8, "little"))
            file.truncate(size)

    return write


def million_empty() -> bytes:
    entry = '"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return ("{" + ",".join(entry % index for index in range(1_000_000)) + "}").encode()


def many_tensors() -> bytes:
    held = {f"t{index}": tensor(1) for index in range(8_001)}
    return module(None, held)


def of_offsets(first: list[int], second: list[int], size: int = 32) -> tuple[Write, str]:
    header = {
        "a": {"dtype": "F32", "shape": [4], "data_offsets": first},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": second},
    }
    return writes(lambda: packed(header, bytes(size))), "tensor_offsets"


def of_entry(code: str, name: str = "a", data: int = 16, **changed: Any) -> tuple[Write, str]:
    header = {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, data], **changed}}
    return writes(lambda: packed(header, bytes(data))), code


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, pickle.dumps(print))
    return buffer.getvalue()


def onnx() -> bytes:
    return b"\x08\x0a\x12\x07pytorch\x1a\x052.13.0" + bytes(200)


def of_text(change: Callable[[str], str], code: str) -> tuple[Write, str]:
    return writes(lambda: module(change(json.dumps(document())))), code


def mixing(*nodes: list[Any]) -> tuple[Write, str]:
    """Nodes over x0 [N, 4] whose last value is the output [N, 4]; at the probe's zeros they give zeros."""
    held = {"weight": None, "probe.y": tensor(2, 4)}
    return of_nodes(*nodes, code="batch_mixing", held=held, shape_out=["N", 4])


def gated(*nodes: list[Any], **more: Any) -> tuple[Write, str]:
    """Nodes over x0 [N, 6]; their last value, which goes with [N, 6], is added where an input is over 1000 and nowhere else."""
    ends = [
        ["aten.gt.Scalar", "v90", [INPUT, 1000.0]],
        ["aten.to.dtype", "v91", [{"v": "v90"}, {"dtype": "float32"}]],
        ["aten.mul.Tensor", "v92", [{"v": "v91"}, {"v": nodes[-1][1]}]],
        ["aten.add.Tensor", "v93", [INPUT, {"v": "v92"}]],
    ]
    held = {"weight": None, "probe.x": tensor(2, 6), "probe.y": tensor(2, 6), **more}
    return of_nodes(*nodes, *ends, code="batch_mixing", held=held, shape_in=["N", 6], shape_out=["N", 6])


def grown(*nodes: list[Any]) -> tuple[Write, str]:
    """Nodes whose last value is large at a batch of 256, though not at those at which a file is checked."""
    ends = [["aten.sum.default", "v8", [{"v": nodes[-1][1]}]], ["aten.add.Tensor", "v9", [INPUT, {"v": "v8"}]]]
    held = {"weight": None, "probe.y": tensor(2, 4)}
    return of_nodes(*nodes, *ends, code="work_too_large", held=held, shape_out=["N", 4])


INPUT = {"v": "x0"}
WEIGHT = {"w": "weight"}
STATISTICS = {name: tensor(4, value=value) for name, value in (("mean", 0.0), ("var", 1.0))}

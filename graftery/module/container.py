"""The outer shell of a module file: a safetensors header that we read ourselves, under caps, before any library does.

The library takes duplicate keys, a shape [0, 2^60] and a header of a million empty tensors; this reader takes none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from graftery.errors import HeaderRefused
from graftery.spec.limits import Limits

METADATA = "__metadata__"
ITEM_SIZE = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "U8": 1, "BOOL": 1}
NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
_MAX_DIMENSION = 2**40
# UTF-16 halves as JSON escapes them: two of them are a character, one alone is none.
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_FOREIGN = (
    (re.compile(rb"PK\x03\x04"), "a zip archive (a .pt, .pt2 or TorchScript file)"),
    (re.compile(rb"\x80[\x02-\x05]"), "a pickle"),
    (re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x3a]", re.DOTALL), "an ONNX file"),
    (re.compile(rb"\x89HDF"), "an HDF5 file"),
)


@dataclass(frozen=True)
class Entry:
    """One tensor's place: `start` and `end` are byte offsets within the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class Raw:
    """A tensor to be written: little-endian bytes in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def read_header(file: BinaryIO, limits: Limits) -> Header:
    """Read and check the header; the tensors' bytes are not touched.

    Raises:
        HeaderRefused: with the code of the first check that fails, in the order of docs/module-file.md.
    """
    size = os.fstat(file.fileno()).st_size
    if size > limits.file_bytes:
        raise HeaderRefused(f"the file has {size} bytes, {limits.file_bytes} are allowed", code="file_too_large")
    head = file.read(8)
    if len(head) < 8:
        raise HeaderRefused(f"the file has {size} bytes, a header alone takes 8", code="file_truncated")
    length = int.from_bytes(head, "little")
    if length > limits.header_bytes:
        _refuse_long_header(head, length, limits)
    if length > size - 8:
        raise HeaderRefused(
            f"the header says it has {length} bytes, the file has {size - 8} after the length", code="file_truncated"
        )
    document = parse_json(file.read(length), what="header", code="header_invalid")
    if not isinstance(document, dict):
        raise HeaderRefused(f"the header is a {_kind(document)}, not an object")
    metadata = _metadata(document.pop(METADATA, {}))
    if len(document) > limits.tensors:
        raise HeaderRefused(f"the file has {len(document)} tensors, {limits.tensors} are allowed", code="tensor_count")
    entries = {name: _entry(name, value, 8 + length, limits) for name, value in document.items()}
    _check_tiling(entries, 8 + length, size)
    return Header(metadata, entries)


def parse_json(data: bytes | str, *, what: str, code: str) -> Any:
    """Read JSON strictly: no duplicate keys, no NaN or Infinity, no half characters, no unbounded depth.

    Raises:
        HeaderRefused: with `code`, or `header_duplicate_key`.
    """

    def constant(text: str) -> NoReturn:
        raise HeaderRefused(f"the {what} holds {text}, which is no JSON", code=code)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise HeaderRefused(f"the {what} has the key {key[:80]!r} twice", code="header_duplicate_key")
            found[key] = value
        return found

    try:
        text = data.decode() if isinstance(data, bytes) else data
        found = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
        if _HALF_CHARACTER.search(text):
            json.dumps(found, ensure_ascii=False).encode()  # Half a character has no UTF-8: no answer could quote it.
        return found
    except RecursionError:
        raise HeaderRefused(f"the {what} is nested too deep", code=code) from None
    except ValueError as error:
        raise HeaderRefused(f"the {what} is no JSON: {str(error)[:200]}", code=code) from None


def write(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Raw]) -> str:
    """Write a file in one canonical form, atomically: the same content gives the same bytes.

    Tensors lie in the order of item size (largest first), then name, so that each is aligned; keys are sorted.

    Returns:
        The sha256 of the file in hex.
    """
    digest = hashlib.sha256()
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for block in blocks(metadata, tensors):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    return digest.hexdigest()


def blocks(metadata: Mapping[str, str], tensors: Mapping[str, Raw]) -> Iterable[bytes | memoryview]:
    """The bytes of that form."""
    ordered = sorted(tensors.items(), key=lambda item: (-ITEM_SIZE[item[1].dtype], item[0]))
    return _blocks(_header_bytes(metadata, ordered), ordered)


def _header_bytes(metadata: Mapping[str, str], ordered: Iterable[tuple[str, Raw]]) -> bytes:
    document: dict[str, Any] = {METADATA: dict(metadata)}
    offset = 0
    for name, raw in ordered:
        end = offset + ITEM_SIZE[raw.dtype] * prod(raw.shape)
        document[name] = {"dtype": raw.dtype, "shape": list(raw.shape), "data_offsets": [offset, end]}
        offset = end
    header = canonical_json(document).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no blanks, ASCII; NaN and Inf are errors."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _blocks(header: bytes, ordered: Iterable[tuple[str, Raw]]) -> Iterable[bytes | memoryview]:
    yield header
    for _, raw in ordered:
        yield raw.data


def _refuse_long_header(head: bytes, length: int, limits: Limits) -> NoReturn:
    for magic, what in _FOREIGN:
        if magic.match(head):
            raise HeaderRefused(
                f"this is {what}, not a module file",
                code="module_file_invalid",
                hint="write a module with graftery.save(net, path, example_x), a sample set as safetensors with x and y",
            )
    raise HeaderRefused(
        f"the header says it has {length} bytes, {limits.header_bytes} are allowed", code="header_too_large"
    )


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise HeaderRefused(f"{METADATA} is not an object of strings")
    return value


def _entry(name: str, value: Any, base: int, limits: Limits) -> Entry:
    if NAME.fullmatch(name) is None:
        raise _bad(name, "has a name that is not 1 to 200 letters, digits, '_' and '.'")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _bad(name, "needs dtype, shape and data_offsets, and nothing else")
    dtype, shape = value["dtype"], value["shape"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZE:
        raise _bad(name, f"has dtype {str(dtype)[:40]!r}, allowed are {', '.join(ITEM_SIZE)}")
    if not _sizes(shape, low=1) or len(shape) > limits.rank:
        raise _bad(name, f"has shape {str(shape)[:80]}, allowed are up to {limits.rank} sizes from 1 to 2^40")
    offsets = value["data_offsets"]
    if not _sizes(offsets, low=0) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(name, f"has data_offsets {str(offsets)[:80]}, not [start, end]", code="tensor_offsets")
    need, have = ITEM_SIZE[dtype] * prod(shape), offsets[1] - offsets[0]
    if need != have:
        raise _bad(name, f"of dtype {dtype} and shape {shape} takes {need} bytes, its offsets span {have}")
    return Entry(dtype, tuple(shape), base + offsets[0], base + offsets[1])


def _sizes(value: Any, *, low: int) -> bool:
    return isinstance(value, list) and all(type(size) is int and low <= size <= _MAX_DIMENSION for size in value)


def _check_tiling(entries: Mapping[str, Entry], base: int, size: int) -> None:
    reached = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != reached:
            what = "overlaps the tensor before it" if entry.start < reached else "leaves a hole before it"
            raise _bad(name, f"{what}: it starts at byte {entry.start}, not {reached}", code="tensor_offsets")
        reached = entry.end
    if reached != size:
        raise HeaderRefused(f"the tensors end at byte {reached}, the file has {size} bytes", code="file_truncated")


def _bad(name: str, what: str, *, code: str = "tensor_invalid") -> HeaderRefused:
    return HeaderRefused(f"tensor {name[:200]!r} {what}", code=code)


def _kind(value: Any) -> str:
    return {list: "list", str: "string", bool: "boolean", int: "number", float: "number"}.get(type(value), "null")

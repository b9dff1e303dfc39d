"""Packing: headers are obeyed, and a small body never becomes a large one."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftery.errors import InferenceRefused
from serving import bodies, protocol, quick

MIB = 1024**2


@given(st.binary(max_size=5000), st.sampled_from(["gzip", "deflate"]))
def test_what_is_packed_is_unpacked(body: bytes, packing: str) -> None:
    packed = bodies.pack(body, packing)
    assert bodies.unpack(packed, packing, 5000) == body
    assert (gzip.decompress if packing == "gzip" else zlib.decompress)(packed) == body


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity"])
def test_bodies_that_are_not_packed(encoding: str | None) -> None:
    assert bodies.unpack(b"abc", encoding, 3) == b"abc"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_at_the_limit(encoding: str) -> None:
    bomb = (gzip.compress if encoding == "gzip" else zlib.compress)(bytes(64 * MIB))
    assert len(bomb) < MIB
    tracemalloc.start()
    with pytest.raises(InferenceRefused, match="over the limit of 1048576 bytes") as caught:
        bodies.unpack(bomb, encoding, MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "request_too_large"
    assert peak < 8 * MIB


BOMBS = {
    "objects": b'{"inputs":[' + b"{}," * (4 * MIB) + b"{}]}",
    "objects elsewhere": b'{"inputs":[],"id":[' + b"{}," * (4 * MIB) + b"{}]}",
    "members": b'{"inputs":[],"parameters":{' + b'"a":1,' * (2 * MIB) + b'"b":1}}',
    "lists": b'{"inputs":[{"data":[' + b"[]," * (4 * MIB) + b"[]]}]}",
    "nested lists": b'{"inputs":' + b"[" * (12 * MIB),
    "values": b'{"inputs":[],"parameters":{"a":[' + b"9," * (9 * MIB) + b"9]}}",
    "objects in UTF-16": ('{"inputs":[' + "{}," * (2 * MIB) + "{}]}").encode("utf-16"),
}


@pytest.mark.parametrize("what", list(BOMBS))
def test_json_that_would_fill_the_memory_is_never_read(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed it has kilobytes, as text it is within the limit; read, its objects would take thirty times as much."""

    def fail(*_: object) -> None:
        raise AssertionError("the text was read")

    monkeypatch.setattr(quick, "read", fail)
    monkeypatch.setattr(protocol, "_DECODER", SimpleNamespace(decode=fail))
    packed = gzip.compress(BOMBS[what], 1)
    assert len(packed) < MIB
    tracemalloc.start()
    with pytest.raises(InferenceRefused, match=f"more than [0-9]+ {what.removeprefix('nested ').split()[0]}") as caught:
        protocol.parse(bodies.unpack(packed, "gzip", 64 * MIB), None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "request_too_large"
    assert peak < 3 * len(BOMBS[what])


def test_a_body_of_just_the_limit_passes() -> None:
    assert len(bodies.unpack(gzip.compress(bytes(1000)), "gzip", 1000)) == 1000
    with pytest.raises(InferenceRefused):
        bodies.unpack(gzip.compress(bytes(1001)), "gzip", 1000)


@pytest.mark.parametrize(
    ("body", "encoding", "message"),
    [
        (b"{}", "gzip", "the body is not gzip"),
        (b"{}", "deflate", "the body is not deflate"),
        (b"", "gzip", "was cut off"),
        (gzip.compress(b"abc" * 100, mtime=0)[:-6], "gzip", "was cut off"),
        (gzip.compress(b"abc", mtime=0) + b"x", "gzip", "bytes behind its end"),
        (b"{}", "br", "'br' is not supported"),
        (b"{}", "gzip, gzip", "is not supported"),
    ],
)
def test_damaged_and_unknown_packings(body: bytes, encoding: str, message: str) -> None:
    with pytest.raises(InferenceRefused, match=message):
        bodies.unpack(body, encoding, MIB)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0", None),
        ("gzip; q=0, *", "deflate"),
        ("*", "gzip"),
        ("gzip;q=x, ;;", None),
        ("GZIP", "gzip"),
    ],
)
def test_accept_encoding(accept: str | None, expected: str | None) -> None:
    assert bodies.chosen_packing(accept) == expected

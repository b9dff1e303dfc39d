from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from graftery.errors import HeaderRefused
from graftery.module import container
from graftery.module.container import Entry, Raw, canonical_json, parse_json, read_header, write
from graftery.spec.limits import Limits
from tests.support.hostile_parts import packed

SOME = {
    "b.half": Raw("F16", (3,), bytes(6)),
    "a": Raw("F32", (2, 2), bytes(range(16))),
    "z": Raw("I64", (), bytes(8)),
    "mask": Raw("BOOL", (5,), bytes(5)),
}


def _read(path: Path, limits: Limits = Limits()) -> container.Header:  # noqa: B008
    with path.open("rb") as file:
        return read_header(file, limits)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    digest = write(path, {"graftery": '{"é":1}'}, SOME)
    data = path.read_bytes()
    assert digest == hashlib.sha256(data).hexdigest()
    header = _read(path)
    assert header.metadata == {"graftery": '{"é":1}'}
    for name, raw in SOME.items():
        entry = header.entries[name]
        assert (entry.dtype, entry.shape) == (raw.dtype, raw.shape)
        assert data[entry.start : entry.end] == raw.data


def test_every_tensor_is_aligned(tmp_path: Path) -> None:
    write(tmp_path / "file", {"a": "b"}, SOME)
    for entry in _read(tmp_path / "file").entries.values():
        assert entry.start % container.ITEM_SIZE[entry.dtype] == 0


def test_order_of_tensors_does_not_matter(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"k": "v", "a": "b"}, SOME)
    assert write(tmp_path / "b", {"a": "b", "k": "v"}, dict(reversed(SOME.items()))) == first


def test_the_library_reads_our_files_and_we_read_the_library_s(tmp_path: Path) -> None:
    write(tmp_path / "ours", {"k": "v"}, SOME)
    assert safetensors.numpy.load_file(tmp_path / "ours")["a"].tobytes() == bytes(range(16))
    safetensors.numpy.save_file({"x": np.arange(6, dtype="float32").reshape(2, 3)}, tmp_path / "theirs")
    assert _read(tmp_path / "theirs").entries["x"].shape == (2, 3)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError):
        write(path, {}, {"a": Raw("F32", (1,), None)})  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_later_file_replaces_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "file", {"n": "1"}, {})
    write(tmp_path / "file", {"n": "2"}, {})
    assert _read(tmp_path / "file").metadata == {"n": "2"}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(file_bytes=50), "file_too_large"),
        (Limits(header_bytes=50), "header_too_large"),
        (Limits(tensors=3), "tensor_count"),
        (Limits(rank=1), "tensor_invalid"),
    ],
)
def test_caps_are_the_caller_s(tmp_path: Path, limits: Limits, code: str) -> None:
    write(tmp_path / "file", {}, SOME)
    with pytest.raises(HeaderRefused) as caught:
        _read(tmp_path / "file", limits)
    assert caught.value.code == code


def test_a_cap_is_not_below_what_is_allowed(tmp_path: Path) -> None:
    write(tmp_path / "file", {}, SOME)
    size = (tmp_path / "file").stat().st_size
    assert len(_read(tmp_path / "file", Limits(file_bytes=size, tensors=4, rank=2)).entries) == 4


def test_messages_name_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, {}, SOME)
    path.write_bytes(path.read_bytes()[:-1])
    size = path.stat().st_size
    with pytest.raises(HeaderRefused, match=f"end at byte {size + 1}, the file has {size} bytes"):
        _read(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_canonical_json_is_read_back(value: object) -> None:
    assert parse_json(canonical_json(value), what="value", code="x") == value


@pytest.mark.parametrize("size", [0, -1, 2**40 + 1, 10**4000, True, 1.0])
def test_sizes_are_whole_numbers_up_to_2_to_40(tmp_path: Path, size: object) -> None:
    entry = {"dtype": "F32", "shape": [size], "data_offsets": [0, 4]}
    (tmp_path / "file").write_bytes(packed({"a": entry}, bytes(4)))
    with pytest.raises(HeaderRefused, match=r"sizes from 1 to 2\^40"):
        _read(tmp_path / "file")


def test_an_empty_tensor_dictionary_is_a_file(tmp_path: Path) -> None:
    write(tmp_path / "file", {}, {})
    assert _read(tmp_path / "file").entries == {}


def test_entries_are_places_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "file", {}, {"a": Raw("U8", (3,), b"abc")})
    entry = _read(tmp_path / "file").entries["a"]
    size = (tmp_path / "file").stat().st_size
    assert entry == Entry("U8", (3,), size - 3, size)

"""Any change to the bytes of a good file gives a refusal or a good file: never another error, never a hang."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graftery.errors import ModuleFileError
from graftery.module import verify
from graftery.module.container import read_header
from graftery.spec.limits import Limits
from tests.support.hostile_parts import document, good, module, tensors

GOOD = good()
SETTINGS = settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _refused_or_good(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        verify(path)
    except ModuleFileError:
        return


@SETTINGS
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    _refused_or_good(tmp_path / "file", bytes(data))


@SETTINGS
@given(st.integers(0, len(GOOD)), st.binary(max_size=16), st.integers(0, 16))
def test_inserted_and_removed_bytes(tmp_path: Path, at: int, extra: bytes, removed: int) -> None:
    _refused_or_good(tmp_path / "file", GOOD[:at] + extra + GOOD[at + removed :])


@settings(SETTINGS, max_examples=200)
@given(st.binary(max_size=400))
def test_header_reader_takes_any_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        try:
            read_header(file, Limits())
        except ModuleFileError:
            return


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([2**40, -(2**40), 2**63 - 1, 0.5, -1e30]),
    st.text(max_size=5),
    st.just({"v": "x0"}),
    st.just({"w": "weight"}),
    st.sampled_from([{"N": 1}, {"device": 1}, {"dtype": "float32"}, {"dtype": "bool"}, {"f": "-inf"}, {"v": "v0"}]),
)
ARGUMENTS = st.lists(st.one_of(LEAVES, st.lists(LEAVES, max_size=4)), max_size=7)
SOME = [
    "aten.conv2d.default", "aten.linear.default", "aten.view.default", "aten.index.Tensor", "aten.cat.default",
    "aten.einsum.default", "aten.batch_norm.default", "aten.max_pool2d.default", "aten.pad.default", "aten.slice.Tensor",
    "aten.split.Tensor", "aten.unfold.default", "aten.im2col.default", "aten.embedding.default", "aten.expand.default",
    "aten.upsample_bilinear2d.vec", "aten.pixel_shuffle.default", "aten.scaled_dot_product_attention.default",
    "aten.repeat_interleave.self_int", "aten.conv_transpose2d.input", "aten.adaptive_avg_pool2d.default", "sym.floordiv",
    "aten.sym_size.int", "aten.to.dtype", "aten.arange.start_step", "aten.roll.default", "sym.getitem", "aten.gather.default",
]  # fmt: skip


@settings(SETTINGS, max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(SOME), ARGUMENTS), min_size=1, max_size=3))
def test_any_arguments(tmp_path: Path, steps: list[tuple[str, list[object]]]) -> None:
    nodes = [[op, f"v{index}", args] for index, (op, args) in enumerate(steps)]
    nodes.append(["aten.linear.default", "v9", [{"v": "x0"}, {"w": "weight"}]])
    _refused_or_good(tmp_path / "file", module(document(nodes, outputs={"features": "v9"}), tensors()))


@pytest.mark.parametrize("change", ["manifest", "inputs", "nodes", "outputs", "names", "format", "version"])
@SETTINGS
@given(
    value=st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    )
)
def test_any_value_in_the_document(tmp_path: Path, change: str, value: object) -> None:
    _refused_or_good(tmp_path / "file", module(json.dumps({**document(), change: value})))

"""What grows as the batch passes; tests/support/hostile.py holds what only looks as if it did."""

from __future__ import annotations

import pytest

from graftery.module.graph import Graph, Node
from graftery.module.growth import Measure, trouble
from graftery.module.shapes import BATCHES, survey
from graftery.spec.limits import Limits
from graftery.spec.manifest import TensorSpec

X = {"v": "x0"}
SPEC = TensorSpec(dtype="float32", shape=("N", 4, 8, 8))


@pytest.mark.parametrize(
    "nodes",
    [
        [Node("aten.slice.Tensor", "v0", (X, 0, 0, 2**63 - 1))],
        [Node("aten.slice.Tensor", "v0", (X, 2, 1, 2**63 - 1, 2))],
        [Node("aten.slice.Tensor", "v0", (X, 0, 0, {"N": 1}))],
        [Node("aten.narrow.default", "v0", (X, 0, 0, {"N": 1}))],
        [Node("aten.avg_pool2d.default", "v0", (X, [3, 3], [2, 2]))],
        [
            Node("aten.sym_size.int", "v1", (X, 2)),
            Node("sym.floordiv", "v2", ({"v": "v1"}, 3)),
            Node("aten.upsample_nearest2d.vec", "v0", (X, [{"v": "v2"}, 5], None)),
        ],
        [
            Node("aten.view.default", "v1", (X, [-1, 2, 8, 8])),
            Node("aten.sym_size.int", "v2", ({"v": "v1"}, 0)),
            Node("sym.floordiv", "v3", ({"v": "v2"}, 2)),
            Node("aten.view.default", "v0", ({"v": "v1"}, [{"v": "v3"}, 4, 8, 8])),
        ],
    ],
    ids=["open_slice", "strided_height", "slice_to_n", "narrow_to_n", "pool", "third_of_a_height", "windows_and_back"],
)
def test_what_grows_as_the_batch_passes(nodes: list[Node]) -> None:
    assert survey(Graph(SPEC, tuple(nodes), {"y": "v0"}), {}, (1, 4, 8, 8), Limits()).outputs["y"].shape[0] == "N"


@pytest.mark.parametrize("sizes", [(1, 4, 9, 289), (2, 4, 6, 35), (1, 1, 1, 2)])
def test_what_is_no_straight_line_is_named(sizes: tuple[int, ...]) -> None:
    found = trouble(BATCHES, [Measure((size,), ()) for size in sizes])
    assert found is not None
    assert "does not grow as the batch" in found


def test_straight_lines_pass() -> None:
    assert trouble(BATCHES, [Measure((3 * n + 2, 7), ("fixed",)) for n in BATCHES]) is None

"""Whose a number inside a net is; tests/support/hostile.py holds files that mix rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from graftery.errors import ModuleFileError
from graftery.module.graph import Graph, Node
from graftery.module.marks import Call, Mixed
from graftery.module.ops import torch_operator
from graftery.module.opset import operators
from graftery.module.rowrules import rule_of
from graftery.module.rows import ROWS, check_rows
from graftery.spec.manifest import TensorSpec

X = {"v": "x0"}
C = 4
"""Channels, and the height and width of maps."""


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


MAPS, SEQUENCE, VECTORS, SINGLE = (ROWS, C, 4, 4), (ROWS, 5, C), (ROWS, C), (1, C)
KERNEL = _noise(6, C, 3, 3)
SHUFFLED = torch.tensor([3, 1, 0, 2])
CALLS: dict[str, tuple[str, tuple[int, ...], Callable[[Tensor], tuple[Any, ...]]]] = {
    "abs": ("aten.abs.default", VECTORS, lambda x: (x,)),
    "add": ("aten.add.Tensor", VECTORS, lambda x: (x, _noise(C))),
    "add itself": ("aten.add.Tensor", VECTORS, lambda x: (x, x)),
    "addcmul": ("aten.addcmul.default", VECTORS, lambda x: (x, x, _noise(C))),
    "addmm": ("aten.addmm.default", VECTORS, lambda x: (_noise(6), x, _noise(C, 6))),
    "amax": ("aten.amax.default", MAPS, lambda x: (x, [2, 3])),
    "attention": ("aten.scaled_dot_product_attention.default", (ROWS, 2, 5, C), lambda x: (x, x, x)),
    "attention, masked": ("aten.scaled_dot_product_attention.default", (ROWS, 2, 5, C), lambda x: (x, x, x, _noise(5, 5))),
    "attention to what is fixed": (
        "aten.scaled_dot_product_attention.default", (ROWS, 2, 5, C), lambda x: (x, _noise(1, 2, 3, C), _noise(1, 2, 3, C))
    ),
    "avg_pool2d": ("aten.avg_pool2d.default", MAPS, lambda x: (x, [2, 2])),
    "baddbmm": ("aten.baddbmm.default", SEQUENCE, lambda x: (_noise(1, 5, 5), x, x.transpose(1, 2))),
    "batch_norm": (
        "aten.batch_norm.default", MAPS, lambda x: (x, None, None, torch.zeros(C), torch.ones(C), False, 0.1, 1e-5, False)
    ),
    "bilinear": ("aten.bilinear.default", VECTORS, lambda x: (x, x, _noise(3, C, C))),
    "bmm": ("aten.bmm.default", SEQUENCE, lambda x: (x, x.transpose(1, 2))),
    "cat": ("aten.cat.default", SEQUENCE, lambda x: ([_noise(ROWS, 1, C), x], 1)),
    "channel_shuffle": ("aten.channel_shuffle.default", MAPS, lambda x: (x, 2)),
    "chunk": ("aten.chunk.default", MAPS, lambda x: (x, 2, 1)),
    "col2im": ("aten.col2im.default", (ROWS, 16, 9), lambda x: (x, [4, 4], [2, 2], [1, 1], [0, 0], [1, 1])),
    "conv2d": ("aten.conv2d.default", MAPS, lambda x: (x, KERNEL, None, [1, 1], [1, 1])),
    "conv_transpose2d": ("aten.conv_transpose2d.input", MAPS, lambda x: (x, _noise(C, 6, 3, 3))),
    "cosine_similarity": ("aten.cosine_similarity.default", SEQUENCE, lambda x: (x, _noise(5, C), 2)),
    "cumsum": ("aten.cumsum.default", SEQUENCE, lambda x: (x, 1)),
    "diagonal": ("aten.diagonal.default", MAPS, lambda x: (x, 0, 2, 3)),
    "einsum": ("aten.einsum.default", SEQUENCE, lambda x: ("ntc,dc->ntd", [x, _noise(6, C)])),
    "einsum of two": ("aten.einsum.default", SEQUENCE, lambda x: ("ntc,nsc->nts", [x, x])),
    "expand": ("aten.expand.default", (ROWS, 1, C), lambda x: (x, [-1, 5, -1])),
    "flatten": ("aten.flatten.using_ints", MAPS, lambda x: (x, 1)),
    "flip": ("aten.flip.default", MAPS, lambda x: (x, [3])),
    "floor_divide": ("aten.floor_divide.default", VECTORS, lambda x: (x, torch.tensor(0.1))),
    "gather": ("aten.gather.default", VECTORS, lambda x: (x, 1, SHUFFLED.expand(ROWS, C))),
    "glu": ("aten.glu.default", MAPS, lambda x: (x, 1)),
    "group_norm": ("aten.group_norm.default", MAPS, lambda x: (x, 2)),
    "im2col": ("aten.im2col.default", MAPS, lambda x: (x, [2, 2], [1, 1], [0, 0], [1, 1])),
    "index": ("aten.index.Tensor", MAPS, lambda x: (x, [None, SHUFFLED])),
    "index_select": ("aten.index_select.default", MAPS, lambda x: (x, 1, SHUFFLED)),
    "instance_norm": ("aten.instance_norm.default", MAPS, lambda x: (x, None, None, None, None, True, 0.1, 1e-5, False)),
    "layer_norm": ("aten.layer_norm.default", SEQUENCE, lambda x: (x, [C], _noise(C), _noise(C))),
    "linear": ("aten.linear.default", SEQUENCE, lambda x: (x, _noise(6, C), _noise(6))),
    "logsumexp": ("aten.logsumexp.default", SEQUENCE, lambda x: (x, [1], True)),
    "masked_fill": ("aten.masked_fill.Tensor", VECTORS, lambda x: (x, SHUFFLED > 1, torch.tensor(0.0))),
    "matmul": ("aten.matmul.default", SEQUENCE, lambda x: (x, _noise(C, 6))),
    "matmul by a vector": ("aten.matmul.default", SEQUENCE, lambda x: (x, _noise(C))),
    "max along": ("aten.max.dim", SEQUENCE, lambda x: (x, 1)),
    "max of two": ("aten.max.other", VECTORS, lambda x: (x, _noise(C))),
    "max_pool2d": ("aten.max_pool2d.default", MAPS, lambda x: (x, [2, 2])),
    "max_pool2d with places": ("aten.max_pool2d_with_indices.default", MAPS, lambda x: (x, [2, 2])),
    "mean": ("aten.mean.dim", MAPS, lambda x: (x, [2, 3])),
    "movedim": ("aten.movedim.int", MAPS, lambda x: (x, 0, 2)),
    "mv": ("aten.mv.default", VECTORS, lambda x: (x, _noise(C))),
    "norm": ("aten.norm.ScalarOpt_dim", MAPS, lambda x: (x, 2, [1], True)),
    "pad": ("aten.pad.default", MAPS, lambda x: (x, [1, 1], "constant", 7.0)),
    "pad by reflection": ("aten.pad.default", MAPS, lambda x: (x, [1, 1, 1, 1], "reflect")),
    "permute": ("aten.permute.default", MAPS, lambda x: (x, [2, 3, 0, 1])),
    "pixel_shuffle": ("aten.pixel_shuffle.default", MAPS, lambda x: (x, 2)),
    "prelu": ("aten.prelu.default", MAPS, lambda x: (x, _noise(C))),
    "prod": ("aten.prod.dim_int", SEQUENCE, lambda x: (x, 2)),
    "repeat": ("aten.repeat.default", VECTORS, lambda x: (x, [1, 2])),
    "repeat the batch": ("aten.repeat.default", VECTORS, lambda x: (x, [2, 1])),
    "rms_norm": ("aten.rms_norm.default", SEQUENCE, lambda x: (x, [5, C])),
    "roll": ("aten.roll.default", MAPS, lambda x: (x, [1], [3])),
    "softmax": ("aten.softmax.int", SEQUENCE, lambda x: (x, -1)),
    "split": ("aten.split.Tensor", MAPS, lambda x: (x, 3, 1)),
    "squeeze": ("aten.squeeze.default", (ROWS, 1, C), lambda x: (x,)),
    "stack": ("aten.stack.default", VECTORS, lambda x: ([x, _noise(ROWS, C)], 1)),
    "to": ("aten.to.dtype", VECTORS, lambda x: (x, torch.float64)),
    "triu": ("aten.triu.default", (ROWS, 5, 5), lambda x: (x, 1)),
    "unbind": ("aten.unbind.int", SEQUENCE, lambda x: (x, 1)),
    "unfold": ("aten.unfold.default", MAPS, lambda x: (x, 3, 2, 1)),
    "upsample": ("aten.upsample_bilinear2d.vec", MAPS, lambda x: (x, [7, 7], False, None)),
    "var_mean": ("aten.var_mean.correction", SEQUENCE, lambda x: (x, [2])),
    "view": ("aten.view.default", SEQUENCE, lambda x: (x, [-1, C])),
    "where": ("aten.where.self", VECTORS, lambda x: (SHUFFLED > 1, x, _noise(C))),
    "a query of its own": (
        "aten.scaled_dot_product_attention.default", SEQUENCE, lambda x: (_noise(1, 2, C), x, x)
    ),
    "linear to one number": ("aten.linear.default", SEQUENCE, lambda x: (x, _noise(C))),
    "pool of vectors": ("aten.adaptive_avg_pool1d.default", VECTORS, lambda x: (x, [2])),
    "pool of one channel": ("aten.avg_pool2d.default", (ROWS, 4, 4), lambda x: (x, [2, 2])),
    "vector norm": ("aten.linalg_vector_norm.default", SEQUENCE, lambda x: (x, 0, [2])),
    "zeros_like": ("aten.zeros_like.default", VECTORS, lambda x: (x,)),
}  # fmt: skip


def _result(text: str, of: Callable[[Tensor], tuple[Any, ...]], x: Tensor) -> list[Tensor]:
    found = torch_operator(text)(*of(x))
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _call(text: str, of: Callable[[Tensor], tuple[Any, ...]], marks: Tensor) -> Call:
    """Whatever of the arguments is made of the input is marks too."""
    operator = operators()[text]
    args, others = of(marks), of(torch.zeros_like(marks))
    ours = [one for one, other in zip(_flat(args), _flat(others), strict=True) if not torch.equal(one, other)]
    given = {each.name: value for each, value in zip(operator.arguments, args, strict=False)}
    return Call(operator, given, frozenset(map(id, ours)))


def _flat(value: Any) -> list[Tensor]:
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in _flat(item)]
    return [value] if isinstance(value, Tensor) else []


def _marks(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(1.0, ROWS + 1).view(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()


@pytest.mark.parametrize("name", CALLS)
def test_what_changes_with_a_row_is_said_to_be_of_it(name: str) -> None:
    text, shape, of = CALLS[name]
    found = rule_of(operators()[text])(_call(text, of, _marks(shape)))
    marks = list(found) if isinstance(found, (list, tuple)) else [found]
    x = _noise(*shape)
    whole = _result(text, of, x)
    assert [each.shape for each in marks] == [each.shape for each in whole]
    for row in range(ROWS):
        for factor in (-8.0, 8.0):
            other = x.clone()
            other[row] = factor * other[row].abs()
            for now, was, each in zip(_result(text, of, other), whole, marks, strict=True):
                assert bool((each[now != was] == row + 1).all())


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"zeros_like"}))
def test_every_row_is_seen_in_what_is_made_of_all(name: str) -> None:
    text, shape, of = CALLS[name]
    found = rule_of(operators()[text])(_call(text, of, _marks(shape)))
    seen = torch.cat([each.flatten() for each in (found if isinstance(found, (list, tuple)) else [found])])
    assert set(seen.tolist()) - {0.0} == {1.0, 2.0, 3.0}


MIXING: dict[str, tuple[str, tuple[int, ...], Callable[[Tensor], tuple[Any, ...]]]] = {
    "sum": ("aten.sum.default", VECTORS, lambda x: (x,)),
    "sum along": ("aten.sum.dim_IntList", VECTORS, lambda x: (x, [0])),
    "softmax": ("aten.softmax.int", SEQUENCE, lambda x: (x, 0)),
    "layer_norm": ("aten.layer_norm.default", VECTORS, lambda x: (x, [ROWS, C])),
    "norm of large eps": ("aten.cosine_similarity.default", VECTORS, lambda x: (x, x, 0, 1e30)),
    "matmul": ("aten.matmul.default", VECTORS, lambda x: (x, x.T)),
    "mm": ("aten.mm.default", VECTORS, lambda x: (_noise(2, ROWS), x)),
    "linear": ("aten.linear.default", VECTORS, lambda x: (x, x)),
    "einsum": ("aten.einsum.default", VECTORS, lambda x: ("nc,nc->c", [x, x])),
    "attention": ("aten.scaled_dot_product_attention.default", SEQUENCE, lambda x: (x.transpose(0, 1),) * 3),
    "conv2d of one sample": ("aten.conv2d.default", (ROWS, C, C), lambda x: (x, _noise(6, ROWS, 1, 1))),
    "weights of the input": ("aten.conv2d.default", (ROWS, C, 1, 1), lambda x: (_noise(2, C, 5, 5), x)),
    "glu": ("aten.glu.default", (4, C), lambda x: (x, 0)),
    "outer": ("aten.outer.default", (ROWS,), lambda x: (x, x)),
    "where": ("aten.where.self", VECTORS, lambda x: (SHUFFLED > 1, x, x[[1, 2, 0]])),
    "batch_norm": ("aten.batch_norm.default", VECTORS, lambda x: (x, x[0], None, None, None, False, 0.1, 1e-5, False)),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_what_two_rows_have_a_part_in_is_refused(name: str) -> None:
    text, shape, of = MIXING[name]
    marks = torch.arange(1.0, shape[0] + 1).view(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()
    with pytest.raises(Mixed):
        rule_of(operators()[text])(_call(text, of, marks))


def test_every_operator_on_tensors_has_a_rule() -> None:
    for text, operator in operators().items():
        assert operator.namespace == "sym" or text == "aten.sym_size.int" or callable(rule_of(operator)), text


@pytest.mark.parametrize(
    "nodes",
    [
        [Node("aten.transpose.int", "v1", (X, 0, 1)), Node("aten.reshape.default", "v0", ({"v": "v1"}, [-1, 4]))],
        [Node("aten.reshape.default", "v0", (X, [5, -1, 4]))],
        [Node("aten.reshape.default", "v1", (X, [2, -1])), Node("aten.t.default", "v2", ({"v": "v1"},)),
         Node("aten.reshape.default", "v0", ({"v": "v2"}, [-1, 5, 4]))],
    ],
    ids=["rows within a sequence", "another order", "shuffled"],
)  # fmt: skip
def test_an_output_whose_rows_do_not_lie_one_behind_the_other_is_refused(nodes: list[Node]) -> None:
    graph = Graph(TensorSpec(dtype="float32", shape=("N", 10, 4)), tuple(nodes), {"y": "v0"})
    with pytest.raises(ModuleFileError) as caught:
        check_rows(graph, {}, (2, 10, 4))
    assert caught.value.code == "batch_mixing"


def test_sequences_that_are_merged_and_parted_again_pass() -> None:
    nodes = (
        Node("aten.transpose.int", "v1", (X, 0, 1)),
        Node("aten.reshape.default", "v2", ({"v": "v1"}, [-1, 4])),
        Node("aten.relu.default", "v3", ({"v": "v2"},)),
        Node("aten.reshape.default", "v4", ({"v": "v3"}, [10, {"N": 1}, 4])),
        Node("aten.transpose.int", "v0", ({"v": "v4"}, 0, 1)),
    )
    check_rows(Graph(TensorSpec(dtype="float32", shape=("N", 10, 4)), nodes, {"y": "v0"}), {}, (2, 10, 4))

from __future__ import annotations

from dataclasses import replace

from graftery.module.graph import Graph, Node, needed, renumbered
from graftery.spec.manifest import TensorSpec

SPEC = TensorSpec(dtype="float32", shape=("N", 4))
RELU = Node("aten.relu.default", "v5", ({"v": "x0"},))
CAT = Node("aten.cat.default", "v2", ([{"v": "v5"}, {"w": "b"}, {"v": "x0"}], 1))
SUM = Node("aten.sum.dim_IntList", "v9", ({"v": "v2"}, [1]), {"dtype": {"dtype": "float32"}})
DEAD = Node("aten.tanh.default", "v7", ({"v": "v5"},))
GRAPH = Graph(SPEC, (RELU, CAT, DEAD, SUM), {"y": "v9"}, {"cat": "v2"})


def test_references_are_found_in_lists() -> None:
    assert list(CAT.values()) == ["v5", "x0"]
    assert list(CAT.weights()) == ["b"]
    assert GRAPH.weights() == {"b"}


def test_needed_keeps_order_and_leaves_out_the_rest() -> None:
    assert needed(GRAPH, GRAPH.outputs) == [RELU, CAT, SUM]
    assert needed(GRAPH, GRAPH.outputs, stop=frozenset({"v2"})) == [SUM]
    assert needed(GRAPH, GRAPH.outputs, stop=frozenset({"v9"})) == []


def test_renumbering_changes_ids_alone() -> None:
    new = renumbered(GRAPH)
    assert [node.id for node in new.nodes] == ["v0", "v1", "v2", "v3"]
    assert new.nodes[1].args == ([{"v": "v0"}, {"w": "b"}, {"v": "x0"}], 1)
    assert (new.outputs, new.names) == ({"y": "v3"}, {"cat": "v1"})
    assert renumbered(new) == new


def test_digest_is_of_what_is_computed() -> None:
    digest = GRAPH.digest()
    assert renumbered(GRAPH).digest() == digest
    assert replace(GRAPH, names={}).digest() == digest
    assert replace(GRAPH, outputs={"z": "v9"}).digest() != digest
    other = Node("aten.sum.dim_IntList", "v9", ({"v": "v2"}, [0]), SUM.kwargs)
    assert replace(GRAPH, nodes=(RELU, CAT, DEAD, other)).digest() != digest


def test_document_has_named_arguments_only_where_there_are_some() -> None:
    assert len(RELU.document()) == 3
    assert SUM.document()[3] == {"dtype": {"dtype": "float32"}}

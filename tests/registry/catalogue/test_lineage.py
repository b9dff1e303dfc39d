from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.orm import Session

from graftery.errors import Conflict, NotFound
from registry import catalogue
from registry.db import Database
from registry.models import Version
from tests.support.registry import put, put_network


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """Two teachers with their cuts, one adapter from the first category to the second task, its network."""
    with database.transaction() as session:
        for name in ("cat", "animals"):
            teacher = put(session, f"{name}-teacher", f"{name} net", "teacher")
            cut = [("teacher", teacher.id)]
            put(session, name, f"{name} lower", "category", parents=cut)
            put(session, f"{name}-is", f"{name} upper", "task", parents=cut)
        roles = {"category": "cat", "task": "animals-is", "teacher_task": "cat-is"}
        found = {role: catalogue.resolve(session, name) for role, name in roles.items()}
        adapter = put(session, "graft-adapter", "h", "adapter", parents=[(role, v.id) for role, v in found.items()])
        put_network(session, "graft", found["category"], found["task"], adapter)
        yield session


def refs(session: Session, ref: str, direction: str, depth: int = 20) -> set[str]:
    return {node.ref for node in catalogue.lineage(session, ref, direction, depth).nodes}


def test_up(session: Session) -> None:
    found = catalogue.lineage(session, "graft", "up")
    assert (found.root, found.direction) == ("graft:1", "up")
    assert {node.ref for node in found.nodes} == {
        "graft:1", "graft-adapter:1", "cat:1", "cat-is:1", "animals-is:1", "cat-teacher:1", "animals-teacher:1",
    }  # fmt: skip
    assert {(edge.child, edge.parent, edge.role) for edge in found.edges} == {
        ("graft:1", "graft-adapter:1", "adapter"),
        ("graft:1", "cat:1", "category"),
        ("graft:1", "animals-is:1", "task"),
        ("graft-adapter:1", "cat:1", "category"),
        ("graft-adapter:1", "animals-is:1", "task"),
        ("graft-adapter:1", "cat-is:1", "teacher_task"),
        ("cat:1", "cat-teacher:1", "teacher"),
        ("cat-is:1", "cat-teacher:1", "teacher"),
        ("animals-is:1", "animals-teacher:1", "teacher"),
    }


def test_down(session: Session) -> None:
    found = catalogue.lineage(session, "cat-teacher", "down")
    assert {node.ref for node in found.nodes} == {"cat-teacher:1", "cat:1", "cat-is:1", "graft-adapter:1", "graft:1"}
    assert ("graft:1", "cat:1") in {(edge.child, edge.parent) for edge in found.edges}
    assert {edge.parent for edge in found.edges} | {edge.child for edge in found.edges} <= {n.ref for n in found.nodes}


def test_depth(session: Session) -> None:
    assert refs(session, "graft", "up", 0) == {"graft:1"}
    assert refs(session, "graft", "up", 1) == {"graft:1", "graft-adapter:1", "cat:1", "animals-is:1"}
    one = catalogue.lineage(session, "graft", "up", 1)
    assert {edge.child for edge in one.edges} == {"graft:1"}


def test_both_ways_are_one_graph(session: Session) -> None:
    found = catalogue.lineage(session, "cat", "both")
    assert (found.root, found.direction) == ("cat:1", "both")
    assert [node.ref for node in found.nodes] == ["cat-teacher:1", "cat:1", "graft-adapter:1", "graft:1"]
    ways = [catalogue.lineage(session, "cat", way) for way in ("up", "down")]
    edges = {(edge.child, edge.parent, edge.role) for way in ways for edge in way.edges}
    assert {(edge.child, edge.parent, edge.role) for edge in found.edges} == edges
    assert len(found.edges) == len(edges), "each edge once"
    one = catalogue.lineage(session, "cat", "both", 1)
    assert {node.ref for node in one.nodes} == {"cat-teacher:1", "cat:1", "graft-adapter:1", "graft:1"}
    none = catalogue.lineage(session, "cat", "both", 0)
    assert ([node.ref for node in none.nodes], none.edges) == (["cat:1"], [])


def test_both_ways_have_the_edges_from_above_to_below(session: Session) -> None:
    """A network with a clone of `graft` has the modules of `graft` too: the graph of both says so."""
    graft = catalogue.resolve(session, "graft")
    bare = catalogue.network_parts(session, graft)
    clone = put(session, "owl", "owl", "clone", parents=[("target", graft.id)])
    put_network(session, "more", bare.category, bare.task, bare.adapter, (clone,))
    edges = {(edge.child, edge.parent, edge.role) for edge in catalogue.lineage(session, "graft", "both").edges}
    assert {("owl:1", "graft:1", "target"), ("more:1", "owl:1", "clone"), ("more:1", "cat:1", "category")} <= edges


def test_nodes_say_what_points_at_them_and_what_is_yanked(session: Session) -> None:
    catalogue.set_alias(session, "graft", "stable", 1)
    catalogue.set_alias(session, "cat", "old", 1)
    put(session, "cat", "cat lower 2")
    catalogue.set_alias(session, "cat", "new", 2)
    catalogue.yank(session, "cat:1", "bad")
    nodes = {node.ref: node for node in catalogue.lineage(session, "graft", "up").nodes}
    assert nodes["graft:1"].aliases == ["default", "stable"]
    assert (nodes["cat:1"].aliases, nodes["cat:1"].yanked) == (["old"], True)
    assert (nodes["animals-is:1"].aliases, nodes["animals-is:1"].yanked) == ([], False)


def test_a_version_without_relatives(session: Session) -> None:
    put(session, "alone", "alone")
    for direction in ("up", "down", "both"):
        found = catalogue.lineage(session, "alone", direction)
        assert ([node.ref for node in found.nodes], found.edges) == (["alone:1"], [])
    with pytest.raises(NotFound):
        catalogue.lineage(session, "missing", "up")


@pytest.mark.timeout(60)
def test_a_diamond_is_walked_once(session: Session) -> None:
    """Forty layers of two, each made from both below: 2**40 paths, 81 versions."""
    layer: list[Version] = [put(session, "root", "root")]
    for depth in range(40):
        parents = [("teacher", version.id) for version in layer]
        layer = [put(session, f"n{side}", f"{side} {depth}", parents=parents) for side in (0, 1)]
    assert len(refs(session, layer[0].ref, "up", 50)) == 80
    assert len(refs(session, "root:1", "down", 50)) == 81
    assert len(refs(session, "root:1", "both", 50)) == 81
    assert len(catalogue.version_impact(session, "root:1").dependents) == 80


def test_siblings_of_a_category_module(session: Session) -> None:
    put(
        session,
        "cat-colour",
        "cat upper 2",
        "task",
        parents=[("teacher", catalogue.resolve(session, "cat-teacher").id)],
    )
    category = catalogue.resolve(session, "cat")
    assert [version.ref for version in catalogue.teacher_tasks(session, category)] == ["cat-colour:1", "cat-is:1"]
    catalogue.yank(session, "cat-is:1", "bad")
    assert [version.ref for version in catalogue.teacher_tasks(session, category)] == ["cat-colour:1"]
    assert catalogue.teacher_tasks(session, put(session, "alone", "alone")) == []


def test_only_networks_have_parts(session: Session) -> None:
    with pytest.raises(Conflict) as error:
        catalogue.network_parts(session, catalogue.resolve(session, "cat"))
    assert error.value.code == "kind_mismatch"


def test_networks_with_a_task_come_native_ones_first(session: Session) -> None:
    found = {name: catalogue.resolve(session, name) for name in ("cat", "animals", "animals-is", "graft-adapter")}
    assert [row.ref for row, _ in catalogue.networks_with_task(session, found["animals-is"], 9)] == ["graft:1"]
    put_network(session, "native", found["animals"], found["animals-is"], None)
    put_network(session, "later", found["cat"], found["animals-is"], found["graft-adapter"])
    put_network(session, "gone", found["cat"], found["animals-is"], None)
    catalogue.yank(session, "gone:1", "bad")
    rows = catalogue.networks_with_task(session, found["animals-is"], 9)
    assert [row.ref for row, _ in rows] == ["native:1", "later:1", "graft:1"]
    assert [parts.category.ref for _, parts in rows] == ["animals:1", "cat:1", "cat:1"]
    assert [parts.adapter is None for _, parts in rows] == [True, False, False]
    assert len(catalogue.networks_with_task(session, found["animals-is"], 2)) == 2
    assert catalogue.networks_with_task(session, catalogue.resolve(session, "cat-is"), 9) == []


def test_parts_know_their_teachers(session: Session) -> None:
    teacher = catalogue.resolve(session, "cat-teacher").id
    for name, ids in (("cat", [teacher]), ("cat-is", [teacher]), ("graft-adapter", [])):
        assert catalogue.teachers_of(session, catalogue.resolve(session, name)) == ids


def _cut(net: str, layer: str = "lower", group: str | None = None) -> dict[str, Any]:
    parents = [{"role": "teacher", "digest": net * 64}, *([{"role": "group", "digest": group}] if group else [])]
    return {"cut": layer, "parents": parents}


def test_the_category_modules_that_a_task_module_was_trained_with(session: Session) -> None:
    """Of the same net, cut at the same layer: by the teacher that was cut here first, then within the group."""
    group = put(session, "kin", "g", "group").digest
    teacher = [("teacher", put(session, "net", "net", "teacher").id)]
    task = put(session, "is", "upper", "task", manifest=_cut("a", group=group), parents=teacher)
    put(session, "pushed", "1", manifest=_cut("a", group=group))
    put(session, "cut-here", "2", manifest=_cut("a", group=group), parents=teacher)
    put(session, "yanked", "3", manifest=_cut("a", group=group), parents=teacher)
    catalogue.yank(session, "yanked:1", "bad")
    put(session, "cut-elsewhere", "4", manifest=_cut("a", "features", group), parents=teacher)
    put(session, "of-another-net", "5", manifest=_cut("b", group=group))
    put(session, "a-stranger", "6", manifest=_cut("a"))
    put(session, "other-is", "7", "task", manifest=_cut("a", group=group), parents=teacher)
    assert [each.ref for each in catalogue.own_categories(session, task)] == ["cut-here:1", "pushed:1"]
    assert catalogue.own_categories(session, catalogue.resolve(session, "cat-is")) == []


def test_clones_of_a_network_keep_their_order(session: Session) -> None:
    graft = catalogue.resolve(session, "graft")
    bare = catalogue.network_parts(session, graft)
    clones = tuple(put(session, name, name, "clone", parents=[("target", graft.id)]) for name in ("owl", "bee", "ant"))
    with_clones = bare._replace(clones=clones)
    network = put_network(session, "more", bare.category, bare.task, bare.adapter, clones)
    assert catalogue.network_parts(session, network) == with_clones
    assert list(with_clones.members) == ["category", "adapter", "task", "clone.0", "clone.1", "clone.2"]
    other = put_network(session, "more", bare.category, bare.task, bare.adapter, clones[::-1])
    assert (other.number, catalogue.network_parts(session, other).clones) == (2, clones[::-1])
    assert put_network(session, "graft", bare.category, bare.task, bare.adapter) is graft, "without clones, the target"
    found = catalogue.lineage(session, "more:1", "up")
    assert {(edge.child, edge.parent) for edge in found.edges if edge.role == "clone"} == {
        ("more:1", f"{name}:1") for name in ("owl", "bee", "ant")
    }


def test_clones_that_are_named_by_digest_alone_are_found(session: Session) -> None:
    bare = catalogue.network_parts(session, catalogue.resolve(session, "graft"))
    clone = put(session, "owl", "owl", "clone")
    parts = bare._replace(clones=(clone,)).parts
    document = catalogue.compose_document(parts).decode()
    network = put(session, "more", document, "network", parts=parts)
    assert catalogue.network_parts(session, network).clones == (clone,)
    strange = parts.model_copy(update={"clones": ("e" * 64,)})
    with pytest.raises(Conflict, match="no clone module"):
        put(session, "strange", catalogue.compose_document(strange).decode(), "network", parts=strange)

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from graftery.errors import Conflict, GrafteryError, Misfit, NotFound, StoreError
from graftery.spec.manifest import NetworkParts
from registry import catalogue
from registry.db import Database
from tests.support.crowd import in_processes, in_threads, publish_same, publish_texts
from tests.support.registry import blob_of, put, put_network


def numbers(database: Database, name: str) -> list[int]:
    with database.read() as session:
        return [version.version for version in catalogue.list_versions(session, name, limit=200).items]


def test_a_version_has_all_that_was_given(database: Database) -> None:
    facts = {"count": 3, "labelled": False, "x": {"dtype": "float32", "shape": ["N", 2]}}
    with database.transaction() as session:
        version, created = catalogue.publish(
            session, name="digits", kind="samples", blob=blob_of("bytes"), facts=facts, by="me", tags=["b", "a", "b"]
        )
        out = catalogue.version_out(session, version)
    assert created
    assert (out.ref, out.kind, out.digest, out.size_bytes) == ("digits:1", "samples", blob_of("bytes").digest, 5)
    assert (out.created_by, out.tags, out.yanked, out.parts, out.manifest) == ("me", ["a", "b"], False, None, None)
    assert out.facts is not None and out.facts.model_dump(exclude_none=True, mode="json") == facts


def test_numbers_count_within_a_name(database: Database) -> None:
    with database.transaction() as session:
        refs = [put(session, name, text).ref for name, text in (("cat", "1"), ("cat", "2"), ("dog", "1"), ("cat", "3"))]
    assert refs == ["cat:1", "cat:2", "dog:1", "cat:3"]


def test_the_same_bytes_are_the_same_version(database: Database) -> None:
    with database.transaction() as session:
        first, _ = catalogue.publish(session, name="cat", kind="category", blob=blob_of("a"), description="old")
        put(session, "cat", "b")
    with database.transaction() as session:
        again, created = catalogue.publish(
            session, name="cat", kind="category", blob=blob_of("a"), description="new", tags=["pet"]
        )
        module = catalogue.module_out(session, again.module)
    assert (again.id, created) == (first.id, False)
    assert (module.description, module.tags, module.versions) == ("new", ["pet"], 2)


def test_the_same_bytes_under_another_name_are_another_version(database: Database) -> None:
    with database.transaction() as session:
        assert [put(session, name, "a").ref for name in ("cat", "dog")] == ["cat:1", "dog:1"]


def test_yanked_bytes_are_refused(database: Database) -> None:
    with database.transaction() as session:
        catalogue.yank(session, put(session, "cat", "a").ref, "wrong labels")
    with pytest.raises(Conflict, match=r"cat:1, which was yanked: wrong labels"), database.transaction() as session:
        put(session, "cat", "a")


def test_a_name_has_one_kind(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", "a", "category")
    with pytest.raises(Conflict) as error, database.transaction() as session:
        put(session, "cat", "b", "task")
    assert error.value.code == "kind_conflict"


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a" * 129, "a b", "ä", "a\x00", "a\n"])
def test_other_names_are_refused(database: Database, name: str) -> None:
    with pytest.raises(GrafteryError) as error, database.transaction() as session:
        put(session, name)
    assert error.value.code == "name_invalid"


def test_threads_keep_every_version(database: Database) -> None:
    found = in_threads(lambda index: publish_texts(index, database.url.render_as_string(False), "cat", 3), 4)
    assert sorted(number for numbers_ in found for number in numbers_) == list(range(1, 13))
    assert numbers(database, "cat") == list(range(12, 0, -1))


def test_processes_keep_every_version(database_url: str, database: Database) -> None:
    found = in_processes(publish_texts, 3, database_url, "cat", 4)
    assert sorted(number for numbers_ in found for number in numbers_) == list(range(1, 13))
    assert numbers(database, "cat") == list(range(12, 0, -1))


def test_the_same_bytes_at_once_are_one_version(database_url: str, database: Database) -> None:
    found = in_threads(lambda index: publish_same(index, database_url), 6)
    assert sorted(found) == [(1, False)] * 5 + [(1, True)]
    assert numbers(database, "cat") == [1]


def test_a_failed_transaction_leaves_no_hole(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", "1")
    with pytest.raises(RuntimeError), database.transaction() as session:
        put(session, "cat", "2")
        raise RuntimeError
    with database.transaction() as session:
        assert put(session, "cat", "3").number == 2


def test_a_network_is_its_parts(database: Database) -> None:
    with database.transaction() as session:
        category, task = put(session, "cat", "c"), put(session, "is", "t", "task")
        plain = put_network(session, "net", category, task)
        adapter = put(session, "net-adapter", "a", "adapter")
        joined = put_network(session, "net", category, task, adapter)
        assert put_network(session, "net", category, task).id == plain.id
        assert catalogue.network_parts(session, plain) == (category, None, task, ())
        assert catalogue.network_parts(session, joined) == (category, adapter, task, ())
        out = catalogue.version_out(session, joined)
    assert out.parts == NetworkParts(category=category.digest, adapter=adapter.digest, task=task.digest)
    assert out.ref == "net:2"


def test_parts_are_found_by_their_digest(database: Database) -> None:
    with database.transaction() as session:
        category, task = put(session, "cat", "c"), put(session, "is", "t", "task")
        put(session, "same-bytes-other-kind", "t", "adapter")
        parts = NetworkParts(category=category.digest, task=task.digest)
        version = put(session, "net", "document", "network", parts=parts)
        assert catalogue.network_parts(session, version) == (category, None, task, ())


def test_unknown_parts_are_refused(database: Database) -> None:
    with pytest.raises(Conflict, match="no category module"), database.transaction() as session:
        parts = NetworkParts(category="0" * 64, task="1" * 64)
        put(session, "net", "document", "network", parts=parts)


def test_a_parent_that_is_gone_is_a_conflict(database: Database) -> None:
    with pytest.raises(Conflict), database.transaction() as session:
        put(session, "cat", parents=[("teacher", 12345)])


def test_a_networks_document_is_canonical() -> None:
    parts = NetworkParts(category="c" * 64, task="d" * 64)
    document = catalogue.compose_document(parts)
    assert document == catalogue.compose_document(NetworkParts(task="d" * 64, category="c" * 64))
    assert json.loads(document) == {
        "format": "graftery.network/1",
        "parts": {"category": "c" * 64, "task": "d" * 64},
    }
    assert b" " not in document
    clones = parts.model_copy(update={"clones": ("f" * 64, "e" * 64)})
    assert json.loads(catalogue.compose_document(clones))["parts"]["clones"] == ["f" * 64, "e" * 64]


def _naming(*digests: str) -> dict[str, Any]:
    return {"kind": "task", "parents": [{"role": "group", "digest": digest} for digest in digests]}


def test_a_member_is_made_from_its_group(database: Database) -> None:
    with database.transaction() as session:
        group = put(session, "kin", "group", "group")
        member = put(session, "cat", "lower", manifest=_naming(group.digest))
        found = catalogue.lineage(session, "cat", "up").edges
        assert [(each.child, each.parent, each.role) for each in found] == [(member.ref, "kin:1", "group")]


def test_a_member_of_no_group_that_is_here_is_not_published(database: Database) -> None:
    with database.transaction() as session:
        other = put(session, "kin", "group", "category")
    with pytest.raises(Misfit) as refused, database.transaction() as session:
        put(session, "cat", "lower", manifest=_naming(other.digest))
    assert refused.value.code == "group_mismatch"
    with database.read() as session, pytest.raises(NotFound):
        catalogue.get_module(session, "cat")


def test_of_two_groups_with_the_same_bytes_the_one_that_is_not_yanked_is_meant(database: Database) -> None:
    with database.transaction() as session:
        digest = put(session, "kin", "group", "group").digest
        put(session, "kin-again", "group", "group")
        assert catalogue.group_version(session, digest).ref == "kin-again:1"
        catalogue.yank(session, "kin-again:1", "bad")
        assert catalogue.group_version(session, digest).ref == "kin:1"
        catalogue.yank(session, "kin:1", "bad")
        assert catalogue.group_version(session, digest).ref == "kin-again:1"


def test_a_document_is_told_from_a_module_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    parts = NetworkParts(category="c" * 64, task="d" * 64, clones=("e" * 64,))
    path.write_bytes(catalogue.compose_document(parts))
    assert catalogue.read_document(path) == parts
    path.write_bytes(b"{\0\0\0\0\0\0\0" + b"{}".ljust(123))  # a header of 123 bytes: its length begins with a brace
    assert catalogue.read_document(path) is None
    for broken in (b"", b',"parts":{}}', b',"parts":[]}', b"}"):
        path.write_bytes(b'{"format":"graftery.network/1"' + broken)
        with pytest.raises(StoreError, match="cannot be read"):
            catalogue.read_document(path)


def test_known_bytes_that_are_described_anew_change_the_name(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", description="old")
    before = _updated(database, "cat")
    with database.transaction() as session:
        put(session, "cat", description="old")
    assert _updated(database, "cat") == before
    with database.transaction() as session:
        put(session, "cat", description="new")
    assert _updated(database, "cat") > before


def _updated(database: Database, name: str) -> datetime:
    with database.read() as session:
        return catalogue.find_module(session, name).updated_at


def test_the_first_network_that_is_there_is_the_default(database: Database) -> None:
    """Its number may be another than 1: what a job retries may have been deleted before."""
    with database.transaction() as session:
        task = put(session, "is", "t", "task")
        put_network(session, "net", put(session, "cat", "f"), task)
    with database.transaction() as session:
        catalogue.delete_version(session, "net:1")
    with database.transaction() as session:
        for name in ("dog", "cow"):
            put_network(session, "net", put(session, name, name), task)
        assert catalogue.resolve(session, "net").ref == "net:2"


def test_what_is_measured_again_of_known_bytes(database: Database) -> None:
    with database.transaction() as session:
        put(session, "net", metrics={"adapter": None})
    before = _updated(database, "net")
    with database.transaction() as session:
        catalogue.remeasure(session, catalogue.resolve(session, "net"), {"adapter": None})
    assert _updated(database, "net") == before, "nothing new"
    with database.transaction() as session:
        catalogue.remeasure(session, catalogue.resolve(session, "net"), {"adapter": {"accuracy": 0.9}})
    with database.read() as session:
        assert catalogue.resolve(session, "net").metrics == {"adapter": {"accuracy": 0.9}}
    assert _updated(database, "net") > before

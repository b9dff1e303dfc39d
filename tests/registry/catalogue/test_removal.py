from __future__ import annotations

import threading

import pytest

from graftery.errors import Conflict, GrafteryError, NotFound
from registry import catalogue, jobs
from registry.catalogue import removal
from registry.db import Database
from tests.support.registry import blob_of, put, put_network


def dependents(error: pytest.ExceptionInfo[Conflict]) -> list[str]:
    assert error.value.code == "has_dependents"
    found: list[str] = error.value.details["dependents"]
    return found


def test_yank_and_back(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", "1")
        put(session, "cat", "2")
        catalogue.yank(session, "cat:2", "bad")
        catalogue.yank(session, f"cat@sha256:{blob_of('2').digest}", "very bad")
        out = catalogue.version_out(session, catalogue.resolve(session, "cat:2"))
        assert (out.yanked, out.yank_reason) == (True, "very bad")
        catalogue.unyank(session, "cat:2")
        out = catalogue.version_out(session, catalogue.resolve(session, "cat"))
        assert (out.version, out.yanked, out.yank_reason) == (2, False, None)


@pytest.mark.parametrize("ref", ["cat", "cat@stable", "cat@latest"])
def test_what_moves_is_not_removed_by_name(database: Database, ref: str) -> None:
    with database.transaction() as session:
        put(session, "cat")
        catalogue.set_alias(session, "cat", "stable", 1)
    for call in (lambda s: catalogue.yank(s, ref, "bad"), lambda s: catalogue.delete_version(s, ref)):
        with pytest.raises(GrafteryError) as error, database.transaction() as session:
            call(session)
        assert error.value.code == "request_invalid"


def test_a_deleted_versions_number_is_not_used_again(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", "1")
        put(session, "cat", "2")
    with database.transaction() as session:
        catalogue.delete_version(session, "cat:2")
    with database.transaction() as session:
        assert [v.version for v in catalogue.list_versions(session, "cat").items] == [1]
        assert put(session, "cat", "2").number == 3
    with pytest.raises(NotFound), database.transaction() as session:
        catalogue.delete_version(session, "cat:2")


def test_what_others_need_is_not_deleted(database: Database) -> None:
    with database.transaction() as session:
        category, task = put(session, "cat", "c"), put(session, "is", "t", "task")
        adapter = put(session, "h", "a", "adapter", parents=[("category", category.id), ("task", task.id)])
        put_network(session, "net", category, task, adapter)
        catalogue.set_alias(session, "cat", "stable", 1)
    for ref, needed_by in (
        ("cat:1", ["cat@stable", "h:1", "net:1"]),
        ("is:1", ["h:1", "net:1"]),
        ("h:1", ["net:1"]),
    ):
        with pytest.raises(Conflict, match=needed_by[0]) as error, database.transaction() as session:
            catalogue.delete_version(session, ref)
        assert dependents(error) == needed_by
    with database.transaction() as session:
        for ref in ("net:1", "h:1", "is:1"):
            catalogue.delete_version(session, ref)
        catalogue.delete_alias(session, "cat", "stable")
        catalogue.delete_version(session, "cat:1")


def test_a_network_is_served_under_its_plain_name_until_that_is_moved(database: Database) -> None:
    """A new adapter is a new version; what clients are answered by changes only when somebody asks for it."""
    with database.transaction() as session:
        category, task = put(session, "cat", "c"), put(session, "is", "t", "task")
        for content in ("one", "two"):
            adapter = put(session, "h", content, "adapter")
            put_network(session, "net", category, task, adapter)
        assert catalogue.resolve(session, "net").number == 1
        assert catalogue.resolve(session, "net@latest").number == 2
    with pytest.raises(Conflict, match="net@default"), database.transaction() as session:
        catalogue.delete_version(session, "net:1")
    with database.transaction() as session:
        catalogue.set_alias(session, "net", "default", 2)
        catalogue.delete_version(session, "net:1")
        assert catalogue.resolve(session, "net").number == 2
        catalogue.delete_version(session, "net:2")


def test_what_a_job_needs_is_not_deleted_until_it_ends(database: Database) -> None:
    with database.transaction() as session:
        pinned = {"category": put(session, "cat").pin, "task": put(session, "is", kind="task").pin}
        job = jobs.submit(session, kind="transplant", request={}, pinned=pinned)
    for _ in ("queued", "running"):
        for delete in (lambda s: catalogue.delete_version(s, "cat:1"), lambda s: catalogue.delete_module(s, "is")):
            with pytest.raises(Conflict) as error, database.transaction() as session:
                delete(session)
            assert dependents(error) == [f"job {job.id}"]
        with database.transaction() as session:
            claim = jobs.claim(session, "w", 60)
    assert claim is None
    with database.transaction() as session:
        assert jobs.fail(session, job.id, 1, "diverged", "it diverged")
        catalogue.delete_version(session, "cat:1")
        catalogue.delete_module(session, "is")


def test_a_module_goes_with_its_versions_and_aliases(database: Database) -> None:
    with database.transaction() as session:
        first = put(session, "cat", "1", tags=["a"])
        put(session, "cat", "2", parents=[("teacher", first.id)])
        catalogue.set_alias(session, "cat", "stable", 1)
        other = put(session, "other", "3", parents=[("category", first.id)])
    with pytest.raises(Conflict) as error, database.transaction() as session:
        catalogue.delete_module(session, "cat")
    assert dependents(error) == ["other:1"]
    with database.transaction() as session:
        catalogue.delete_version(session, other.ref)
        catalogue.delete_module(session, "cat")
    with database.transaction() as session:
        assert [module.name for module in catalogue.list_modules(session).items] == ["other"]
        with pytest.raises(NotFound):
            catalogue.delete_module(session, "cat")
        assert put(session, "cat", "4", "task").ref == "cat:1"
        assert catalogue.module_out(session, catalogue.get_module(session, "cat")).tags == []


def test_the_bytes_row_stays_for_collect(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", "1")
        catalogue.delete_version(session, "cat:1")
        assert put(session, "dog", "1").blob.size_bytes == 1


@pytest.mark.parametrize("naming", ["lineage", "job"])
def test_naming_while_it_is_deleted(database: Database, monkeypatch: pytest.MonkeyPatch, naming: str) -> None:
    """Somebody makes something of a version after the check for dependents: they wait, are refused, nothing dangles."""
    with database.transaction() as session:
        version = put(session, "cat", "1")
    outcome = []

    def name_it() -> None:
        try:
            with database.transaction() as session:
                if naming == "lineage":
                    put(session, "child", "2", parents=[("category", version.id)])
                else:
                    jobs.submit(session, kind="transplant", request={}, pinned={"category": version.pin})
            outcome.append("named")
        except (Conflict, NotFound):
            outcome.append("refused")

    thread = threading.Thread(target=name_it)

    def after_the_check(what: str, found: list[str]) -> None:
        assert (what, found) == ("cat:1", [])
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "it waits for the delete"

    monkeypatch.setattr(removal, "_refuse_dependents", after_the_check)
    with database.transaction() as session:
        catalogue.delete_version(session, "cat:1")
    thread.join(10)
    assert outcome == ["refused"]
    with database.read() as session:
        assert jobs.counts(session) == {}


def test_a_clone_that_a_network_has_is_not_deleted(database: Database) -> None:
    with database.transaction() as session:
        target = put_network(session, "net", put(session, "cat", "c"), put(session, "is", "t", "task"))
        clone = put(session, "owl", "o", "clone", parents=[("target", target.id)])
        bare = catalogue.network_parts(session, target)
        put_network(session, "more", bare.category, bare.task, None, (clone,))
    for name, needed_by in (("owl", ["more:1"]), ("net", ["owl:1"]), ("cat", ["net:1", "more:1"])):
        with pytest.raises(Conflict) as error, database.transaction() as session:
            catalogue.delete_version(session, f"{name}:1")
        assert dependents(error) == needed_by
    with database.transaction() as session:
        for name in ("more", "owl", "net"):
            catalogue.delete_version(session, f"{name}:1")

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from graftery.errors import AccessRefused, Conflict, GrafteryError, NotFound
from graftery.spec.impact import ImpactOut, why_text
from registry import catalogue, jobs
from registry.access.caller import Caller, acting
from registry.catalogue import impact
from registry.db import Database
from tests.support.registry import put, put_network


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A teacher with its cuts, an adapter and its network, a clone for that, and a network with the clone."""
    with database.transaction() as session:
        teacher = put(session, "cat-teacher", "net", "teacher")
        cat = put(session, "cat", "f", parents=[("teacher", teacher.id)])
        task = put(session, "is", "t", "task")
        adapter = put(session, "h", "a", "adapter", parents=[("category", cat.id), ("task", task.id)])
        net = put_network(session, "net", cat, task, adapter)
        clone = put(session, "owl", "o", "clone", parents=[("target", net.id)])
        put_network(session, "more", cat, task, adapter, (clone,))
        catalogue.set_alias(session, "more", "stable", 1)
        yield session


def made_of(found: ImpactOut) -> list[tuple[str, str, str]]:
    return [(each.ref, each.effect, why_text(each.why)) for each in found.dependents]


def test_what_was_made_of_a_teacher_goes_on_the_nearest_first(session: Session) -> None:
    found = catalogue.version_impact(session, "cat-teacher")
    assert (found.ref, found.name, found.kind, found.yanked) == ("cat-teacher:1", "cat-teacher", "teacher", False)
    assert made_of(found) == [
        ("cat:1", "still_resolved", "teacher of cat:1"),
        ("h:1", "still_resolved", "teacher of cat:1, category of h:1"),
        ("net:1", "still_served", "teacher of cat:1, category of net:1"),
        ("more:1", "still_served", "teacher of cat:1, category of more:1"),
        ("owl:1", "still_resolved", "teacher of cat:1, category of net:1, target of owl:1"),
    ]
    assert [(name.reference, name.effect, name.served) for name in found.names] == [
        ("cat-teacher", "no_longer_resolved", False),
        ("cat-teacher@latest", "no_longer_resolved", False),
        ("cat", "still_served", True),
        ("more", "still_served", True),
        ("more@stable", "still_served", True),
        ("net", "still_served", True),
    ]
    assert found.broken == []
    assert (found.cells, found.jobs, found.left_out) == ([], [], 0)


def test_a_delete_is_refused_by_what_would_refuse_it(session: Session) -> None:
    for ref in ("cat-teacher:1", "cat:1", "is:1", "h:1", "net:1", "owl:1", "more:1"):
        refused_by: list[str] = []
        try:
            with session.begin_nested() as savepoint:
                catalogue.delete_version(session, ref)
                savepoint.rollback()
        except Conflict as error:
            refused_by = error.details["dependents"]
            assert f"/v1/versions/{ref}/impact" in (error.hint or "")
        session.expire_all()
        found = catalogue.version_impact(session, ref).delete
        assert (found.refused, found.refused_by) == (bool(refused_by), refused_by)
    assert catalogue.version_impact(session, "more:1").delete.refused_by == ["more@stable"]
    whole = catalogue.name_impact(session, "more").delete
    assert (whole.refused, whole.refused_by) == (False, []), "a name goes with its aliases"
    with pytest.raises(Conflict) as refused:
        catalogue.delete_module(session, "net")
    assert refused.value.hint is not None and "/v1/modules/net/impact" in refused.value.hint
    assert refused.value.details["dependents"] == catalogue.name_impact(session, "net").delete.refused_by == ["owl:1"]


def test_jobs_that_need_it_or_what_was_made_of_it_go_on(session: Session) -> None:
    pinned = {role: catalogue.resolve(session, name).pin for role, name in (("category", "cat"), ("task", "is"))}
    first = jobs.submit(session, kind="transplant", request={}, pinned=pinned)
    other = jobs.submit(session, kind="clone", request={}, pinned={"target": catalogue.resolve(session, "more").pin})
    found = catalogue.version_impact(session, "cat:1").jobs
    assert sorted((job.id, job.kind, job.state, job.effect, job.pins, why_text(job.why)) for job in found) == sorted(
        [
            (first.id, "transplant", "queued", "goes_on", ["cat:1"], ""),
            (other.id, "clone", "queued", "goes_on", ["more:1"], "category of more:1"),
        ]
    )
    assert f"job {first.id}" in catalogue.version_impact(session, "cat:1").delete.refused_by
    catalogue.yank(session, "cat:1", "bad")
    claims = [jobs.claim(session, "w", 60) for _ in range(2)]
    claim = next(claim for claim in claims if claim is not None and claim.id == first.id)
    # What a worker does with its pins: each resolves, yanked or not.
    assert catalogue.resolve(session, claim.pinned["category"], for_pin=True).ref == "cat:1"
    assert {job.state for job in catalogue.version_impact(session, "cat:1").jobs} == {"running"}
    assert jobs.fail(session, first.id, claim.attempt, "diverged", "it diverged")
    assert [job.id for job in catalogue.version_impact(session, "cat:1").jobs] == [other.id]


def test_a_name_is_all_its_versions(session: Session) -> None:
    cat = catalogue.resolve(session, "cat")
    put(session, "cat", "g", parents=[("category", cat.id)])
    found = catalogue.name_impact(session, "cat")
    assert (found.ref, found.name, found.kind) == ("cat", "cat", "category")
    assert [each.ref for each in found.dependents] == ["h:1", "net:1", "more:1", "owl:1"]
    assert found.delete.refused_by == ["h:1", "net:1", "more:1"]
    assert "cat:2" in [each.ref for each in catalogue.version_impact(session, "cat:1").dependents]


def test_what_is_hidden_already_changes_no_name(session: Session) -> None:
    catalogue.yank(session, "net:1", "bad")
    found = catalogue.version_impact(session, "net:1")
    assert (found.yanked, [name for name in found.names if name.breaks]) == (True, [])
    assert [each.ref for each in found.dependents] == ["owl:1", "more:1"]
    assert catalogue.name_impact(session, "net").yanked
    with pytest.raises(NotFound) as error:
        catalogue.version_impact(session, "net")
    assert error.value.code == "yanked"


def test_what_there_is_no_impact_of(session: Session) -> None:
    for call in (
        lambda: catalogue.version_impact(session, "cot:1"),
        lambda: catalogue.version_impact(session, "cat:9"),
        lambda: catalogue.name_impact(session, "cot"),
        lambda: catalogue.yank_impact(session, "cot:1"),
    ):
        with pytest.raises(NotFound) as error:
            call()
        assert error.value.code == "not_found"


def test_a_dry_run_is_refused_where_the_yank_would_be(session: Session) -> None:
    version = catalogue.module_out(session, catalogue.get_module(session, "cat"))
    assert catalogue.yank_impact(session, "cat:1") == catalogue.version_impact(session, "cat:1")
    assert catalogue.module_out(session, catalogue.get_module(session, "cat")) == version
    with pytest.raises(GrafteryError) as error:
        catalogue.yank_impact(session, "cat")
    assert error.value.code == "request_invalid"
    with acting(Caller("k", "key", frozenset({"push"}), ("team",))), pytest.raises(AccessRefused) as refused:
        catalogue.yank_impact(session, "cat:1")
    assert refused.value.code == "forbidden"


def test_what_is_too_much_to_list_is_counted(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impact, "MOST", 2)
    found = catalogue.version_impact(session, "cat-teacher")
    assert [each.ref for each in found.dependents] == ["cat:1", "h:1"]
    assert [name.reference for name in found.names] == ["cat-teacher", "cat-teacher@latest"], "what breaks is listed"
    assert found.left_out == 3 + 4


def test_the_number_of_queries_does_not_grow_with_what_was_made_of_it(session: Session) -> None:
    def queries(ref: str) -> int:
        asked: list[str] = []

        def listen(*args: Any) -> None:
            asked.append(args[2])

        event.listen(session.connection().engine, "before_cursor_execute", listen)
        session.expire_all()
        catalogue.version_impact(session, ref)
        event.remove(session.connection().engine, "before_cursor_execute", listen)
        return len(asked)

    before = {ref: queries(ref) for ref in ("cat:1", "h:1", "net:1")}
    assert min(before.values()) > 5
    cat, task, adapter = (catalogue.resolve(session, name) for name in ("cat", "is", "h"))
    for index in range(5):
        network = put_network(session, f"net-{index}", cat, task, adapter)
        put(session, f"owl-{index}", "o", "clone", parents=[("target", network.id)])
    assert {ref: queries(ref) for ref in before} == before

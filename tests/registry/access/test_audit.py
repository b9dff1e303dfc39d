"""Every verb that changes something leaves one row, of who did it; and refuses who may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from graftery.errors import AccessRefused, GrafteryError, NotFound
from graftery.spec.wire import ModulePatch
from registry import catalogue, jobs
from registry.access.audit import list_changes, note
from registry.access.caller import ANYBODY, Caller, acting
from registry.db import Database
from tests.support.registry import put
from tests.support.workplace import SQLITE

CI = Caller("ci", "0123456789ab", namespaces=("vision",))
TRANSPLANTER = Caller("transplanter", "1123456789ab", scopes=frozenset({"read", "transplant"}))


def job(session: Session, name: str = "vision.net", **more: Any) -> str:
    return jobs.submit(session, kind="transplant", request={"name": name}, pinned={}, **more).id


def cancelled(session: Session, name: str) -> str:
    made = job(session, name)
    jobs.request_cancel(session, made)
    return made


Change = Callable[[Session, str], object]
CHANGES: dict[str, Change] = {
    "publish": lambda session, name: put(session, name, "three"),
    "describe": lambda session, name: catalogue.update_module(session, name, ModulePatch(description="x")),
    "describe by an upload": lambda session, name: put(session, name, "two", description="new"),
    "tag by an upload": lambda session, name: put(session, name, "two", tags=["new"]),
    "alias": lambda session, name: catalogue.set_alias(session, name, "other", 1),
    "alias removed": lambda session, name: catalogue.delete_alias(session, name, "stable"),
    "rollback": lambda session, name: catalogue.rollback_alias(session, name, "stable"),
    "yank": lambda session, name: catalogue.yank(session, f"{name}:1", "bad"),
    "unyank": lambda session, name: catalogue.unyank(session, f"{name}:1"),
    "delete": lambda session, name: catalogue.delete_version(session, f"{name}:1"),
    "delete all": lambda session, name: catalogue.delete_module(session, name),
    "transplant": job,
}


def fill(database: Database, name: str) -> None:
    """Two versions, and an alias that was moved from the first to the second."""
    with database.transaction() as session:
        put(session, name)
        put(session, name, "two")
        for number in (1, 2):
            catalogue.set_alias(session, name, "stable", number)


def count(database: Database) -> int:
    with database.read() as session:
        return len(list_changes(session, limit=200).items)


@SQLITE
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_leaves_one_row(database: Database, change: Change) -> None:
    fill(database, "vision.cat")
    before = count(database)
    with acting(CI, "req-9"), database.transaction() as session:
        change(session, "vision.cat")
    with database.read() as session:
        row = list_changes(session, limit=1).items[0]
    assert (row.by, row.request_id) == ("ci", "req-9")
    assert "vision.cat" in row.what or row.what.startswith("job ")
    assert count(database) == before + 1


@SQLITE
@pytest.mark.parametrize("name", ["audio.cat", "vision", "visionary.cat", "cat"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_nothing_outside_the_namespaces_is_changed(database: Database, change: Change, name: str) -> None:
    fill(database, name)
    before = count(database)
    with acting(CI), pytest.raises(AccessRefused) as caught, database.transaction() as session:
        change(session, name)
    assert caught.value.code == "forbidden"
    assert "vision.NAME" in (caught.value.hint or "")
    assert count(database) == before


@SQLITE
def test_jobs_belong_to_the_namespace_of_what_they_make(database: Database) -> None:
    with database.transaction() as session:
        running, ended = job(session, "audio.net"), cancelled(session, "audio.net")
        collect = jobs.submit(session, kind="collect", request={}, pinned={}).id
    for change in (
        lambda session: jobs.request_cancel(session, running),
        lambda session: jobs.retry(session, ended),
        lambda session: jobs.request_cancel(session, collect),
        lambda session: jobs.submit(session, kind="collect", request={}, pinned={}),
    ):
        with acting(CI), pytest.raises(AccessRefused), database.transaction() as session:
            change(session)


@SQLITE
def test_a_collection_is_an_admin_s_to_ask_for_again_and_to_cancel(database: Database) -> None:
    def collect(session: Session) -> str:
        return jobs.submit(session, kind="collect", request={"dry_run": False}, pinned={}).id

    with database.transaction() as session:
        running, ended = collect(session), collect(session)
        jobs.request_cancel(session, ended)
    changes: list[Callable[[Session], object]] = [
        lambda session: jobs.retry(session, ended),
        lambda session: jobs.request_cancel(session, running),
        collect,
    ]
    for change in changes:
        refused = pytest.raises(AccessRefused, match="needs the scope admin")
        with acting(TRANSPLANTER), refused, database.transaction() as session:
            change(session)
    with acting(TRANSPLANTER), database.transaction() as session:
        jobs.retry(session, cancelled(session, "net"))  # other jobs are its to ask for again
    with acting(Caller("root", "2123456789ab")), database.transaction() as session:
        for change in changes:
            change(session)


@SQLITE
def test_jobs_are_noted(database: Database) -> None:
    with acting(CI), database.transaction() as session:
        made = cancelled(session, "vision.net")
        jobs.request_cancel(session, made)  # changes nothing
        again = jobs.retry(session, made).id
    with database.read() as session:
        found = [(row.action, row.what) for row in list_changes(session).items]
    assert found == [("retry", f"job {again}"), ("cancel", f"job {made}"), ("transplant", f"job {made}")]


def test_what_is_rolled_back_leaves_no_row(database: Database) -> None:
    with pytest.raises(NotFound), database.transaction() as session:
        note(session, "publish", "cat:1", "cat")
        raise NotFound("no")
    assert count(database) == 0


def test_the_log_comes_in_pages_newest_first_and_by_what_is_asked(database: Database) -> None:
    with database.transaction() as session:
        for number in range(5):
            note(session, "publish", f"cat:{number}", "cat", by="ci" if number % 2 else "job 1", size_bytes=None, n=1)
    with database.read() as session:
        first = list_changes(session, limit=2)
    with database.transaction() as session:
        note(session, "publish", "cat:9", "cat")
    with database.read() as session:
        second = list_changes(session, limit=2, cursor=first.next)
        assert [row.what for row in (*first.items, *second.items)] == ["cat:4", "cat:3", "cat:2", "cat:1"]
        assert [row.what for row in list_changes(session, by="ci").items] == ["cat:3", "cat:1"]
        assert list_changes(session, name="dog").items == []
        assert len(list_changes(session, name="cat", action="publish").items) == 6
        assert first.items[0].details == {"n": 1}
        with pytest.raises(GrafteryError):
            list_changes(session, cursor="nonsense")


@SQLITE
def test_without_keys_nobody_is_named_and_a_worker_names_its_job(database: Database) -> None:
    with acting(ANYBODY), database.transaction() as session:
        assert put(session, "cat").created_by is None
        assert put(session, "cat", "two", by="job 7").created_by == "job 7"
    with acting(CI), database.transaction() as session:
        assert put(session, "vision.cat").created_by == "ci"
        assert catalogue.set_alias(session, "vision.cat", "stable", 1).updated_by == "ci"
    with database.read() as session:
        assert [event.by for event in catalogue.alias_history(session, "vision.cat", "stable")] == ["ci"]
        assert [row.by for row in list_changes(session).items] == ["ci", "ci", "job 7", None]

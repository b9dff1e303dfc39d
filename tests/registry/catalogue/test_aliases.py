from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from graftery.errors import Conflict, GrafteryError, NotFound
from registry import catalogue
from registry.db import Database
from tests.support.crowd import in_threads
from tests.support.registry import put


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """Four versions of `cat`, in an open transaction."""
    with database.transaction() as session:
        for text in "1234":
            put(session, "cat", text)
        yield session


def points_at(session: Session, alias: str = "stable") -> int:
    return catalogue.resolve(session, f"cat@{alias}").number


def history(session: Session, alias: str = "stable") -> list[tuple[int | None, int | None, str | None]]:
    return [(event.old, event.new, event.by) for event in catalogue.alias_history(session, "cat", alias)]


def test_set_move_delete(session: Session) -> None:
    catalogue.set_alias(session, "cat", "stable", 1, "ann")
    moved = catalogue.set_alias(session, "cat", "stable", 3, "bob")
    out = catalogue.alias_out(moved)
    assert (out.name, out.alias, out.version, out.ref, out.updated_by) == ("cat", "stable", 3, "cat:3", "bob")
    assert catalogue.list_aliases(session, "cat") == [out]
    assert catalogue.version_out(session, catalogue.resolve(session, "cat:3")).aliases == ["stable"]
    catalogue.delete_alias(session, "cat", "stable", "eve")
    assert catalogue.list_aliases(session, "cat") == []
    with pytest.raises(NotFound):
        catalogue.resolve(session, "cat@stable")
    assert history(session) == [(3, None, "eve"), (1, 3, "bob"), (None, 1, "ann")]


def test_setting_what_is_set_is_no_change(session: Session) -> None:
    catalogue.set_alias(session, "cat", "stable", 1, "ann")
    tag = catalogue.module_etag(catalogue.get_module(session, "cat"))
    catalogue.set_alias(session, "cat", "stable", 1, "bob")
    assert history(session) == [(None, 1, "ann")]
    assert catalogue.module_etag(catalogue.get_module(session, "cat")) == tag


def test_rollback_goes_back_step_by_step(session: Session) -> None:
    for number in (1, 2, 3):
        catalogue.set_alias(session, "cat", "stable", number)
    assert catalogue.rollback_alias(session, "cat", "stable", "ann").version.number == 2
    assert catalogue.rollback_alias(session, "cat", "stable", "ann").version.number == 1
    with pytest.raises(Conflict, match="no earlier"):
        catalogue.rollback_alias(session, "cat", "stable")
    assert points_at(session) == 1
    assert history(session)[:2] == [(2, 1, "ann"), (3, 2, "ann")]


def test_setting_after_a_rollback(session: Session) -> None:
    for number in (1, 2):
        catalogue.set_alias(session, "cat", "stable", number)
    catalogue.rollback_alias(session, "cat", "stable")
    catalogue.set_alias(session, "cat", "stable", 4)
    assert catalogue.rollback_alias(session, "cat", "stable").version.number == 1
    with pytest.raises(Conflict):
        catalogue.rollback_alias(session, "cat", "stable")


def test_rollback_of_a_deletion(session: Session) -> None:
    catalogue.set_alias(session, "cat", "stable", 2)
    catalogue.delete_alias(session, "cat", "stable")
    catalogue.rollback_alias(session, "cat", "stable")
    assert points_at(session) == 2


def test_rollback_passes_over_deleted_versions(session: Session) -> None:
    for number in (1, 2, 3):
        catalogue.set_alias(session, "cat", "stable", number)
    catalogue.delete_version(session, "cat:2")
    assert catalogue.rollback_alias(session, "cat", "stable").version.number == 1
    with pytest.raises(Conflict):
        catalogue.rollback_alias(session, "cat", "stable")


def test_rollback_does_not_bring_back_what_was_yanked(session: Session) -> None:
    for number in (1, 2, 3):
        catalogue.set_alias(session, "cat", "stable", number)
    catalogue.yank(session, "cat:2", "bad")
    with pytest.raises(Conflict, match=r"cat:2 before, which was yanked: bad"):
        catalogue.rollback_alias(session, "cat", "stable")
    assert points_at(session) == 3


def test_unknown(session: Session) -> None:
    catalogue.set_alias(session, "cat", "stable", 1)
    for call in (catalogue.rollback_alias, catalogue.alias_history, catalogue.delete_alias):
        with pytest.raises(NotFound) as error:
            call(session, "cat", "other")
        assert error.value.details["near"] == ["cat@stable"]
    for name, number in (("cat", 9), ("dog", 1)):
        with pytest.raises(NotFound):
            catalogue.set_alias(session, name, "stable", number)


@pytest.mark.parametrize("alias", ["latest", "", "1", "a b", "a" * 65, "sha256:aa"])
def test_other_aliases_are_refused(session: Session, alias: str) -> None:
    with pytest.raises(GrafteryError) as error:
        catalogue.set_alias(session, "cat", alias, 1)
    assert error.value.code == "name_invalid"


def test_an_alias_is_not_set_to_a_yanked_version(session: Session) -> None:
    catalogue.yank(session, "cat:1", "bad")
    with pytest.raises(NotFound) as error:
        catalogue.set_alias(session, "cat", "stable", 1)
    assert error.value.code == "yanked"


def test_many_at_once_leave_a_history_without_gaps(database: Database) -> None:
    with database.transaction() as session:
        for index in range(5):
            put(session, "cat", str(index))

    def work(index: int) -> None:
        with database.transaction() as session:
            catalogue.set_alias(session, "cat", "stable", index + 1)

    in_threads(work, 5)
    with database.read() as session:
        events = catalogue.alias_history(session, "cat", "stable")[::-1]
        assert [event.old for event in events] == [None, *(event.new for event in events[:-1])]
        assert sorted(event.new or 0 for event in events) == [1, 2, 3, 4, 5]
        assert points_at(session) == events[-1].new

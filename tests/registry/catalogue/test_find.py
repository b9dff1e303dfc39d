from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from graftery.errors import Conflict, GrafteryError, NotFound
from registry import catalogue
from registry.catalogue.find import near, newest
from registry.db import Database
from tests.support.registry import blob_of, put


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """Three versions of `cat` with the texts 1, 2 and 3, in an open transaction."""
    with database.transaction() as session:
        for text in "123":
            put(session, "cat", text)
        yield session


def test_every_form_of_a_reference(session: Session) -> None:
    catalogue.set_alias(session, "cat", "stable", 1)
    forms = ["cat", "cat:2", "cat@stable", "cat@latest", f"cat@sha256:{blob_of('2').digest}"]
    assert [catalogue.resolve(session, form).number for form in forms] == [3, 2, 1, 3, 2]


def test_a_bare_name_is_the_default_alias(session: Session) -> None:
    catalogue.set_alias(session, "cat", "default", 2)
    assert catalogue.resolve(session, "cat").number == 2
    assert catalogue.resolve(session, "cat@latest").number == 3


def test_yanked_versions_hide_from_names(session: Session) -> None:
    catalogue.yank(session, "cat:3", "bad")
    assert catalogue.resolve(session, "cat").number == 2
    assert catalogue.resolve(session, "cat@latest").number == 2
    assert catalogue.resolve(session, "cat:3").number == 3
    assert catalogue.resolve(session, f"cat@sha256:{blob_of('3').digest}", for_pin=True).number == 3


def test_a_yanked_version_is_pinned_by_digest_only(session: Session) -> None:
    catalogue.yank(session, "cat:3", "bad")
    with pytest.raises(NotFound, match="bad") as error:
        catalogue.resolve(session, "cat:3", for_pin=True)
    assert error.value.code == "yanked"
    assert blob_of("3").digest in (error.value.hint or "")


def test_an_alias_never_falls_back_silently(session: Session) -> None:
    catalogue.set_alias(session, "cat", "default", 2)
    catalogue.set_alias(session, "cat", "stable", 2)
    catalogue.yank(session, "cat:2", "bad")
    for ref, alias in (("cat", "default"), ("cat@default", "default"), ("cat@stable", "stable")):
        with pytest.raises(NotFound) as error:
            catalogue.resolve(session, ref)
        assert error.value.code == "yanked"
        assert f"point cat@{alias} at another version" in (error.value.hint or "")


def test_where_all_are_yanked(session: Session) -> None:
    for number in (1, 2, 3):
        catalogue.yank(session, f"cat:{number}", "bad")
    for ref in ("cat", "cat@latest"):
        with pytest.raises(NotFound) as error:
            catalogue.resolve(session, ref)
        assert error.value.code == "yanked"
    assert newest(session, catalogue.get_module(session, "cat")) is None


def test_where_there_is_no_version(session: Session) -> None:
    for number in (1, 2, 3):
        catalogue.delete_version(session, f"cat:{number}")
    with pytest.raises(NotFound, match="no version") as error:
        catalogue.resolve(session, "cat")
    assert error.value.code == "not_found"


@pytest.mark.parametrize(("ref", "found"), [("cta", ["cat"]), ("CAT:1", ["cat"]), ("caat@x", ["cat"]), ("zzz", [])])
def test_unknown_names_give_near_ones(session: Session, ref: str, found: list[str]) -> None:
    put(session, "dog", "1")
    with pytest.raises(NotFound) as error:
        catalogue.resolve(session, ref)
    assert error.value.details["near"] == found


def test_unknown_versions_and_aliases_give_those_there_are(session: Session) -> None:
    catalogue.set_alias(session, "cat", "stable", 1)
    for ref, found in (
        ("cat:7", ["cat:3", "cat:2", "cat:1"]),
        (f"cat@sha256:{'0' * 64}", ["cat:3", "cat:2", "cat:1"]),
        ("cat@stabel", ["cat@stable"]),
        ("cat:999999999", ["cat:3", "cat:2", "cat:1"]),
    ):
        with pytest.raises(NotFound) as error:
            catalogue.resolve(session, ref)
        assert (error.value.code, error.value.details["near"]) == ("not_found", found)


def test_kinds(session: Session) -> None:
    assert catalogue.resolve(session, "cat", kinds=["category", "task"]).number == 3
    with pytest.raises(Conflict, match="adapter or task") as error:
        catalogue.resolve(session, "cat", kinds={"task", "adapter"})
    assert error.value.code == "kind_mismatch"


@pytest.mark.parametrize("ref", ["", "cat:0", "cat:x", "cat@", "cat@sha256:1", "c t", "cat:1@stable", "a\x00"])
def test_other_references_are_refused(session: Session, ref: str) -> None:
    with pytest.raises(GrafteryError) as error:
        catalogue.resolve(session, ref)
    assert error.value.code == "name_invalid"


def test_names_that_no_database_can_hold(session: Session) -> None:
    for name in ("a\x00b", "\ud800", "a" * 10_000):
        with pytest.raises(NotFound):
            catalogue.get_module(session, name)


def test_near() -> None:
    assert near("resnet-cta", ["resnet-cat", "resnet-dog", "vgg", "Resnet-Cat2"])[0] == "resnet-cat"
    assert near("abc", []) == []

from __future__ import annotations

import pytest

from graftery.errors import StoreError
from graftery.spec.uploading import UploadRequest
from registry import catalogue
from registry.db import Database
from registry.settings import Settings
from tests.support.crowd import in_threads
from tests.support.registry import put


def test_what_a_namespace_keeps(database: Database) -> None:
    with database.transaction() as session:
        put(session, "team.cat", "12345")
        put(session, "team.cat", "123")
        put(session, "team.dog", "12345")  # the same file counts once
        put(session, "team_b.cat", "1234567")
        put(session, "teamXcat.c", "12")
        put(session, "cat", "1234")
        catalogue.begin_upload(session, UploadRequest(name="team.new", size_bytes=100, digest="ab" * 32), 10, 60.0)
        used = {
            space: catalogue.used_bytes(session, space) for space in ("team", "team_b", "te", "te_m", "", "teamXcat")
        }
    assert used == {"team": 108, "team_b": 7, "te": 0, "te_m": 0, "": 4, "teamXcat": 2}


def test_over_the_quota(database: Database) -> None:
    with database.transaction() as session:
        put(session, "team.cat", "12345")
        catalogue.require_quota(session, "team.dog", 10, more=5)
        catalogue.require_quota(session, "team.dog", None, more=10**9)
        with pytest.raises(StoreError) as error:
            catalogue.require_quota(session, "team.dog", 10, more=6)
    assert error.value.code == "quota_exceeded"
    assert error.value.details == {"used_bytes": 5, "asked_bytes": 6, "allowed_bytes": 10}


def test_an_upload_that_becomes_a_version_counts_once(database: Database) -> None:
    with database.transaction() as session:
        row, _ = catalogue.begin_upload(session, UploadRequest(name="a.b", size_bytes=5, digest="ab" * 32), 10, 60.0)
        put(session, "a.b", "12345")
        assert catalogue.used_bytes(session, "a") == 10
        assert catalogue.used_bytes(session, "a", without=row.id) == 5


def test_two_at_once_do_not_both_slip_through(database: Database) -> None:
    def publish(index: int) -> bool:
        try:
            with database.transaction() as session:
                put(session, f"team.cat-{index}", f"{index:010}")
                catalogue.require_quota(session, "team.cat", 25)
        except StoreError:
            return False
        return True

    assert sum(in_threads(publish, 6)) == 2
    with database.read() as session:
        assert catalogue.used_bytes(session, "team") == 20


def test_settings() -> None:
    settings = Settings(quota_bytes=10, quotas={"big": 100, "": 5})
    assert [settings.quota(space) for space in ("big", "", "other")] == [100, 5, 10]
    assert Settings().quota("any") is None


def test_only_bytes_of_the_own_namespace_are_told(database: Database) -> None:
    with database.transaction() as session:
        digest = put(session, "team.cat", "secret").digest
        assert catalogue.shared_blob(session, digest, "team.other") is not None
        assert catalogue.shared_blob(session, digest, "others.cat") is None
        assert catalogue.shared_blob(session, digest, "cat") is None


def test_an_upload_that_expired_is_nobodys(database: Database) -> None:
    with database.transaction() as session:
        catalogue.begin_upload(session, UploadRequest(name="team.new", size_bytes=100, digest="ab" * 32), 10, -1.0)
        assert catalogue.used_bytes(session, "team") == 0

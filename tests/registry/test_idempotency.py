from __future__ import annotations

import pytest
from sqlalchemy import update

from graftery.errors import Conflict
from registry import idempotency, jobs
from registry.clock import from_now
from registry.db import Database
from registry.idempotency import Reply
from registry.models import IdempotencyKey
from tests.support.crowd import in_threads

POST = ("key", "POST", "/v1/transplants", "0" * 64)


def test_the_second_request_gets_the_first_answer(database: Database) -> None:
    reply = Reply(202, b'{"id": 1}', {"Location": "/v1/jobs/1"})
    with database.transaction() as session:
        assert idempotency.remember(session, *POST) is None
        idempotency.keep(session, "key", reply)
    with database.transaction() as session:
        assert idempotency.remember(session, *POST) == reply


@pytest.mark.parametrize("other", [("POST", "/v1/collect", "0" * 64), ("POST", "/v1/transplants", "1" * 64)])
def test_a_key_belongs_to_one_request(database: Database, other: tuple[str, str, str]) -> None:
    with database.transaction() as session:
        idempotency.remember(session, *POST)
        idempotency.keep(session, "key", Reply(200, b""))
    with pytest.raises(Conflict) as error, database.transaction() as session:
        idempotency.remember(session, "key", *other)
    assert error.value.code == "idempotency_conflict"


def test_work_that_fails_frees_its_key(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as session:
        idempotency.remember(session, *POST)
        raise RuntimeError
    with database.transaction() as session:
        assert idempotency.remember(session, *POST) is None


def test_a_key_without_an_answer_is_not_answered(database: Database) -> None:
    with database.transaction() as session:
        idempotency.remember(session, *POST)
    with pytest.raises(Conflict), database.transaction() as session:
        idempotency.remember(session, *POST)


def test_many_at_once_do_the_work_once(database: Database) -> None:
    def work(_index: int) -> bytes:
        with database.transaction() as session:
            known = idempotency.remember(session, *POST)
            if known is not None:
                return known.body
            job = jobs.submit(session, kind="collect", request={}, pinned={})
            idempotency.keep(session, "key", Reply(202, job.id.encode()))
            return job.id.encode()

    answers = in_threads(work, 6)
    assert len(set(answers)) == 1
    with database.read() as session:
        assert jobs.counts(session) == {"queued": 1}


def test_old_keys_are_forgotten(database: Database) -> None:
    with database.transaction() as session:
        for key in ("old", "new"):
            idempotency.remember(session, key, *POST[1:])
            idempotency.keep(session, key, Reply(200, b""))
        session.execute(update(IdempotencyKey).where(IdempotencyKey.key == "old").values(created_at=from_now(-90_000)))
    with database.transaction() as session:
        assert idempotency.forget_old(session) == 1
        assert idempotency.remember(session, "old", *POST[1:]) is None
        assert idempotency.remember(session, "new", *POST[1:]) is not None

from __future__ import annotations

import pytest
from sqlalchemy import text, update

from graftery.errors import Conflict, NotFound
from graftery.spec.access import KeyMade, KeyRequest
from registry.access import keys
from registry.access.audit import list_changes
from registry.access.caller import Caller, acting
from registry.clock import from_now
from registry.db import Database
from registry.models import ApiKey


def make(database: Database, name: str = "ci", **asked: object) -> KeyMade:
    request = KeyRequest.model_validate({"scopes": ["push"], **asked})
    with database.transaction() as session:
        return keys.create(session, name, request)


def found(database: Database, token: str) -> Caller | None:
    with database.read() as session:
        return keys.find(session, token)[0]


def reason(database: Database, token: str) -> str:
    with database.read() as session:
        return keys.find(session, token)[1]


def test_a_key_is_found_by_its_secret_alone(database: Database) -> None:
    made = make(database, namespaces=["vision", "audio"])
    caller = found(database, made.secret)
    assert caller is not None
    assert (caller.name, caller.scopes, caller.namespaces) == ("ci", {"read", "push"}, ("audio", "vision"))
    other = make(database, "other")
    mixed = f"gft_{made.id}_{other.secret.rpartition(other.id + '_')[2]}"
    assert reason(database, mixed) == "wrong secret"
    assert reason(database, made.secret.replace(made.id, "0" * 12)) == "unknown key"
    assert reason(database, "hello") == "no key of this service"


def test_only_hashes_are_stored(database: Database) -> None:
    made = make(database)
    with database.transaction() as session:
        rotated = keys.rotate(session, "ci", 60)
    with database.read() as session:
        tables = (
            session.execute(text("SELECT * FROM api_keys")).all() + session.execute(text("SELECT * FROM audit")).all()
        )
    for token in (made.secret, rotated.secret):
        assert token.removeprefix(f"gft_{made.id}_") not in str(tables)


def test_a_key_expires(database: Database) -> None:
    made = make(database, expires_in_s=100)
    assert found(database, made.secret) is not None
    with database.transaction() as session:
        session.execute(update(ApiKey).values(expires_at=from_now(-1)))
    assert reason(database, made.secret) == "the key is expired"
    with database.read() as session:
        assert keys.get(session, "ci").state == "expired"
        assert not keys.is_any_usable(session)
    with pytest.raises(Conflict), database.transaction() as session:
        keys.rotate(session, "ci", 0)


def test_a_revoked_key_is_not_taken_and_its_name_not_given_again(database: Database) -> None:
    made = make(database)
    for _ in range(2):
        with database.transaction() as session:
            keys.revoke(session, "ci")
    assert reason(database, made.secret) == "the key is revoked"
    with pytest.raises(Conflict):
        make(database)
    with database.read() as session:
        assert len(list_changes(session, action="key.revoke").items) == 1, "the second time nothing was changed"


@pytest.mark.parametrize("overlap_s", [0, 60])
def test_a_rotation_leaves_the_secret_before_for_a_while_or_not_at_all(database: Database, overlap_s: float) -> None:
    first = make(database)
    with database.transaction() as session:
        second = keys.rotate(session, "ci", overlap_s)
    assert second.id == first.id
    assert found(database, second.secret) is not None
    assert (found(database, first.secret) is not None) == (overlap_s > 0)
    with database.transaction() as session:
        session.execute(update(ApiKey).values(earlier_until=from_now(-1)))
    assert found(database, first.secret) is None
    assert found(database, second.secret) is not None


def test_a_revocation_takes_the_secret_before_with_it(database: Database) -> None:
    first = make(database)
    with database.transaction() as session:
        keys.rotate(session, "ci", 60)
    with database.transaction() as session:
        keys.revoke(session, "ci")
    assert found(database, first.secret) is None


def test_keys_come_in_pages_and_without_secrets(database: Database) -> None:
    for name in ("c", "a", "b"):
        make(database, name)
    with database.read() as session:
        first = keys.list_keys(session, limit=2)
        second = keys.list_keys(session, limit=2, cursor=first.next)
        with pytest.raises(NotFound):
            keys.get(session, "d")
    assert [key.name for key in (*first.items, *second.items)] == ["a", "b", "c"]
    assert second.next is None
    assert "secret" not in first.model_dump_json()


def test_who_made_a_key_is_known(database: Database) -> None:
    with acting(Caller("root"), "req-1"):
        made = make(database)
    assert made.created_by == "root"
    with database.read() as session:
        (row,) = list_changes(session).items
    assert (row.by, row.action, row.what, row.request_id) == ("root", "key.create", "key ci", "req-1")

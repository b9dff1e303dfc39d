from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from graftery.errors import AccessRefused, Conflict, GrafteryError, Unavailable
from graftery.spec.access import KeyMade, KeyRequest, Scope
from registry.access import keys
from registry.access.caller import Caller
from registry.access.guard import MAX_KEPT, Guard, bearer, check_can_start
from registry.db import Database
from registry.settings import Settings
from tests.support.workplace import SQLITE

pytestmark = SQLITE
T = TypeVar("T")
ASK: frozenset[Scope] = frozenset({"infer"})


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def guard(database: Database, settings: Settings, **more: Any) -> Guard:
    return Guard(settings.model_copy(update={"access": "keys", **more}), database)


def make(database: Database, *scopes: Scope) -> KeyMade:
    with database.transaction() as session:
        return keys.create(session, "-".join(scopes), KeyRequest(scopes=[*scopes]))


def revoke(database: Database, made: KeyMade) -> None:
    with database.transaction() as session:
        keys.revoke(session, made.name)


def admit(door: Guard, token: str | None, scopes: frozenset[Scope] = ASK) -> Caller:
    return run(door.admit(None if token is None else f"Bearer {token}", "10.0.0.1", scopes, "GET /there"))


def refusal(door: Guard, token: str | None, scopes: frozenset[Scope] = ASK) -> GrafteryError:
    with pytest.raises(GrafteryError) as caught:
        admit(door, token, scopes)
    return caught.value


def test_who_has_a_key_with_the_scope_comes_in(database: Database, settings: Settings) -> None:
    door, made = guard(database, settings), make(database, "infer")
    assert admit(door, made.secret).name == "infer"
    assert refusal(door, None).code == "unauthenticated"
    assert refusal(door, "gft_nonsense").code == "unauthenticated"
    error = refusal(door, made.secret, frozenset({"push"}))
    assert (error.code, error.message) == ("forbidden", "GET /there needs the scope push")


def test_admin_comes_in_everywhere(database: Database, settings: Settings) -> None:
    door, made = guard(database, settings), make(database, "admin")
    for scope in ("read", "push", "transplant", "infer", "admin"):
        admit(door, made.secret, frozenset({scope}))  # type: ignore[arg-type]


def test_the_answer_says_nothing_of_why(database: Database, settings: Settings) -> None:
    door, made = guard(database, settings), make(database, "infer")
    said = {str(refusal(door, token)) for token in (made.secret[:-1] + "-", "gft_" + "0" * 12 + "_" + "a" * 43)}
    revoke(database, made)
    assert {str(refusal(door, made.secret))} == said


def test_where_keys_are_not_asked_for_everybody_comes_in(database: Database, settings: Settings) -> None:
    door = guard(database, settings, access="open")
    assert admit(door, None).name is None
    assert admit(door, "gft_nonsense").name is None


def test_a_key_is_believed_for_as_long_as_is_set(database: Database, settings: Settings) -> None:
    believing, doubting = guard(database, settings, keys_s=0.3), guard(database, settings, keys_s=0)
    made = make(database, "infer")
    admit(believing, made.secret)
    admit(doubting, made.secret)
    revoke(database, made)
    admit(believing, made.secret)
    assert refusal(doubting, made.secret).code == "unauthenticated"
    time.sleep(0.35)
    assert refusal(believing, made.secret).code == "unauthenticated"


def test_no_key_is_held_in_memory(database: Database, settings: Settings) -> None:
    door, made = guard(database, settings), make(database, "infer")
    admit(door, made.secret)
    refusal(door, "gft_wrong")
    assert made.secret not in str(vars(door))
    assert "gft_wrong" not in str(vars(door))


def test_a_known_key_costs_microseconds(database: Database, settings: Settings) -> None:
    door, made = guard(database, settings, keys_s=60), make(database, "infer")

    async def each_us() -> float:
        await door.admit(f"Bearer {made.secret}", "10.0.0.1", ASK, "x")
        best = float("inf")
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(100):
                await door.admit(f"Bearer {made.secret}", "10.0.0.1", ASK, "x")
            best = min(best, (time.perf_counter() - began) / 100)
        return best * 1e6

    assert run(each_us()) < 50


def test_wrong_keys_are_bounded_in_number_and_memory(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = guard(database, settings, refused_rate="3/minute")
    looked: list[str] = []
    monkeypatch.setattr(door, "_find", lambda token: (looked.append(token), (None, "unknown key"))[1])
    codes = [refusal(door, f"gft_{number}").code for number in range(6)]
    assert codes == ["unauthenticated"] * 3 + ["rate_limited"] * 3
    assert len(looked) == 3, "the database is spared"
    for number in range(MAX_KEPT + 10):
        door._bad[str(number).encode()] = 0.0
    free = guard(database, settings, refused_rate="100000/second")
    monkeypatch.setattr(free, "_find", lambda token: (None, "unknown key"))
    free._bad.update({str(number).encode(): 0.0 for number in range(MAX_KEPT)})
    refusal(free, "gft_more")
    assert len(free._bad) == MAX_KEPT


def test_a_flood_of_wrong_keys_keeps_out_nobody_who_was_in(database: Database, settings: Settings) -> None:
    door, made = guard(database, settings, refused_rate="2/minute", keys_s=0), make(database, "infer")
    admit(door, made.secret)
    for number in range(5):
        refusal(door, f"gft_{number}")
    assert admit(door, made.secret).name == "infer"


def test_requests_are_counted_by_key_and_by_scope(database: Database, settings: Settings) -> None:
    door = guard(database, settings, rates={"infer": "2/minute"})
    first, second = make(database, "infer"), make(database, "infer", "read")
    for made in (first, second):
        for _ in range(2):
            admit(door, made.secret)
        error = refusal(door, made.secret)
        assert error.code == "rate_limited"
        assert 1 <= error.details["retry_after_s"] <= 60
    admit(door, second.secret, frozenset({"read"}))


def test_where_keys_are_not_asked_for_requests_are_counted_by_address(database: Database, settings: Settings) -> None:
    door = guard(database, settings, access="open", rates={"infer": "2/minute"})

    def code(address: str) -> str:
        try:
            run(door.admit(None, address, ASK, "x"))
        except Unavailable as error:
            return error.code
        return ""

    assert [code("10.0.0.1") for _ in range(3)] == ["", "", "rate_limited"]
    assert code("10.0.0.2") == ""


def test_without_a_database_nobody_comes_in(database: Database, settings: Settings) -> None:
    made = make(database, "infer")
    away = Database("postgresql://nobody@127.0.0.1:9/none?connect_timeout=1")
    with pytest.raises(Unavailable):
        run(Guard(settings.model_copy(update={"access": "keys"}), away).admit(f"Bearer {made.secret}", None, ASK, "x"))
    away.dispose()


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "gft_x", ""])
def test_another_scheme_is_refused(header: str, database: Database) -> None:
    with pytest.raises(AccessRefused):
        bearer(header)
    assert bearer(None) is None
    assert bearer("bearer  gft_x ") == "gft_x"


@pytest.mark.parametrize(
    ("host", "access", "asks"),
    [
        ("127.0.0.1", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("0.0.0.0", "auto", True),
        ("::", "auto", True),
        ("10.1.2.3", "auto", True),
        ("example.org", "auto", True),
        ("127.0.0.1", "keys", True),
        ("0.0.0.0", "open", False),
    ],
)
def test_where_keys_are_asked_for_it_does_not_start_without_one(
    database: Database, settings: Settings, host: str, access: str, asks: bool
) -> None:
    changed = settings.model_copy(update={"host": host, "access": access})
    assert changed.asks_for_keys == asks
    if not asks:
        check_can_start(changed, database)
        return
    with pytest.raises(Conflict, match="there is no key") as caught:
        check_can_start(changed, database)
    assert "graftery keys create" in str(caught.value)
    made = make(database, "admin")
    check_can_start(changed, database)
    revoke(database, made)
    with pytest.raises(Conflict):
        check_can_start(changed, database)

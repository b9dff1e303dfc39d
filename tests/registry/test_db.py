from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import DBAPIError

from graftery.errors import Conflict, Unavailable
from graftery.spec.problems import PROBLEMS
from registry import db as db_module
from registry.db import Database, check_head, database_url, dump_json, upgrade
from registry.models import Job, Module
from registry.settings import Settings
from tests.support.crowd import in_threads
from tests.support.registry import put


@pytest.fixture
def movable(database: Database) -> Iterator[Database]:
    """A database whose revision a test may move: other tests find it where it was."""
    with database.read() as session:
        revision = session.scalar(text("SELECT version_num FROM alembic_version"))
    yield database
    _move_to(database, str(revision))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_means_psycopg_3(scheme: str) -> None:
    url = database_url(f"{scheme}://me:secret@host:5/name")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.port, url.database) == ("me", "secret", 5, "name")


def test_a_transaction_is_whole_or_nothing(database: Database) -> None:
    with database.transaction() as session:
        put(session, "kept")
    with pytest.raises(RuntimeError), database.transaction() as session:
        put(session, "lost")
        raise RuntimeError
    with database.read() as session:
        assert session.scalars(select(Module.name)).all() == ["kept"]


def test_a_read_writes_nothing(database: Database) -> None:
    with database.read() as session:
        put(session, "lost")
    with database.read() as session:
        assert session.scalars(select(Module.name)).all() == []


def test_rows_outlive_their_session(database: Database) -> None:
    with database.transaction() as session:
        version = put(session, "cat")
        version.module.row_version += 1
    assert (version.ref, version.created_at.tzinfo is not None, version.module.row_version) == ("cat:1", True, 3)


def test_a_row_taken_twice_is_a_conflict(database: Database) -> None:
    with pytest.raises(Conflict), database.transaction() as session:
        session.add_all([Module(name="cat", kind="task"), Module(name="cat", kind="task")])


def test_a_missing_row_is_a_conflict(database: Database) -> None:
    with pytest.raises(Conflict), database.transaction() as session:
        session.add(Job(id="a", kind="collect", request={}, pinned={}, retry_of="missing"))


def test_other_errors_of_the_database_stay(database: Database) -> None:
    with pytest.raises(DBAPIError), database.read() as session:
        session.execute(text("SELECT * FROM missing"))


def test_no_database_is_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable), database.read() as session:
        session.execute(text("SELECT 1"))


def test_a_full_disk_is_said_and_what_was_written_stays(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/full.db")
    with database.transaction() as session:
        session.execute(text("CREATE TABLE kept (words TEXT)"))
        session.execute(text("INSERT INTO kept VALUES ('here')"))
    with pytest.raises(Unavailable) as caught, database.transaction() as session:
        session.execute(text("PRAGMA max_page_count = 1"))  # as if no page more could be had
        session.execute(text("INSERT INTO kept VALUES (hex(zeroblob(100000)))"))
    assert PROBLEMS[caught.value.code].status == 507
    with database.read() as session:
        assert session.scalars(text("SELECT words FROM kept")).all() == ["here"]
    database.dispose()


def test_no_free_connection_is_unavailable(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.05)
    with ExitStack() as held:
        for _ in range(database.engine.pool.size() + database.engine.pool._max_overflow):
            held.enter_context(database.read()).execute(text("SELECT 1"))
        with pytest.raises(Unavailable), database.read() as session:
            session.execute(text("SELECT 1"))


def test_a_lost_connection_is_replaced(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.read() as session:
        session.execute(text("SELECT 1"))
    with pytest.raises(Unavailable), database.read() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with database.read() as session:
        assert session.scalar(text("SELECT 1")) == 1
    database.dispose()


def test_a_deadlock_is_unavailable(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.transaction() as session:
        session.execute(text("CREATE TABLE t (id int primary key)"))
        session.execute(text("INSERT INTO t VALUES (0), (1)"))
    barrier = threading.Barrier(2)

    def work(index: int) -> str:
        try:
            with database.transaction() as session:
                session.execute(text(f"UPDATE t SET id = id WHERE id = {index}"))
                barrier.wait()
                session.execute(text(f"UPDATE t SET id = id WHERE id = {1 - index}"))
        except Unavailable:
            return "again"
        return "done"

    assert sorted(in_threads(work, 2)) == ["again", "done"]
    database.dispose()


def test_sqlite_gives_up_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_module, "BUSY_TIMEOUT_S", 0)
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with (
        database.transaction() as first,
        pytest.raises(Unavailable),
        database.transaction() as second,
    ):
        first.execute(text("SELECT 1"))
        second.execute(text("SELECT 1"))


def test_sqlite_is_durable_and_checks_references(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new' / 'a.db'}")
    with database.read() as session:
        pragmas = {
            name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_sqlite_readers_do_not_wait_for_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_module, "BUSY_TIMEOUT_S", 0)
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with database.transaction() as session:
        session.execute(text("CREATE TABLE t (id int)"))
    with database.transaction() as writer:
        writer.execute(text("INSERT INTO t VALUES (1)"))
        with database.read() as reader:
            assert reader.scalar(text("SELECT count(*) FROM t")) == 0


def test_options_of_the_url_are_kept(postgres_url: str) -> None:
    mark = "&" if "?" in postgres_url else "?"
    database = Database(f"{postgres_url}{mark}options=-c%20lock_timeout%3D1234")
    with database.read() as session:
        assert session.scalar(text("SHOW lock_timeout")) == "1234ms"
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "90s"
    database.dispose()


def test_a_connection_notices_a_host_that_is_gone(postgres_url: str) -> None:
    mark = "&" if "?" in postgres_url else "?"
    database = Database(f"{postgres_url}{mark}keepalives_idle=77&connect_timeout=4")
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        found = driver.info.get_parameters()
    database.dispose()
    ours = {"keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "15000"}
    wanted = {**ours, "keepalives_idle": "77", "connect_timeout": "4"}  # what the URL says holds
    assert {name: found.get(name) for name in wanted} == wanted


def test_a_client_that_stands_still_keeps_no_row_locked(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was stopped in the middle of a heartbeat, or whose host died."""
    monkeypatch.setattr(db_module, "SILENT_S", 1)
    upgrade(Settings(database_url=postgres_url))
    stopped, other = Database(postgres_url), Database(postgres_url)
    with other.transaction() as session:
        put(session, "cat")
    with pytest.raises(Unavailable), stopped.transaction() as session:
        session.execute(update(Module).values(description="never written"))
        with other.transaction() as waiting:  # until the other's time is over
            waiting.execute(text("SET LOCAL lock_timeout = '10s'"))
            waiting.execute(update(Module).values(description="written"))
        session.flush()
    with other.read() as session:
        assert session.scalars(select(Module.description)).all() == ["written"]
    with stopped.snapshot() as session:
        time.sleep(1.5)
        assert session.scalars(select(Module.description)).all() == ["written"], "who only reads may take its time"
    for each in (stopped, other):
        each.dispose()


def test_a_lock_whose_connection_breaks_is_unavailable(postgres_url: str) -> None:
    database = Database(postgres_url)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with pytest.raises(Unavailable), database.lock("test"), database.read() as session:
        session.execute(text(others))
    with database.lock("test"):
        database.dispose()
    unreachable = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable), unreachable.lock("test"):
        pass


def test_a_lock_is_held_by_one(database: Database) -> None:
    inside: list[int] = []

    def work(index: int) -> int:
        with database.lock("test"):
            inside.append(index)
            most = len(inside)
            time.sleep(0.02)
            inside.remove(index)
        return most

    assert in_threads(work, 4) == [1, 1, 1, 1]
    with database.lock("test"), database.lock("another"):
        pass


def test_json_has_no_nan() -> None:
    value = {"loss": float("nan"), "steps": [1.0, float("inf"), (float("-inf"),)], "name": "\ud800ä"}
    assert dump_json(value) == '{"loss": null, "steps": [1.0, null, [null]], "name": "\\ud800\\u00e4"}'


def test_text_that_postgresql_refuses_is_kept_readable(database: Database) -> None:
    with database.transaction() as session:
        version = put(
            session, "cat", description="a\x00b\ud800c", tags=["x\x00y"], metrics={"a": "\x00", "b": float("nan")}
        )
    with database.read() as session:
        stored = session.get_one(type(version), version.id)
        assert (stored.module.description, stored.metrics) == ("a\ufffdb?c", {"a": "\x00", "b": None})


def test_the_order_of_outputs_is_kept(database: Database) -> None:
    facts = {"zebra": 1, "ant": {"longer": 1, "b": 2}}
    with database.transaction() as session:
        version = put(session, "cat", facts=facts)
    with database.read() as session:
        stored = session.get_one(type(version), version.id)
        assert str(stored.facts) == str(facts)


def test_head_is_checked(database: Database, postgres_url: str, tmp_path: Path) -> None:
    check_head(database)
    for url in (postgres_url, f"sqlite:///{tmp_path / 'empty.db'}"):
        with pytest.raises(Unavailable, match="schema none"):
            check_head(Database(url))


def _move_to(database: Database, revision: str) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})


@pytest.mark.parametrize(("revision", "words"), [("0001", "this version needs"), ("9999", "does not know")])
def test_another_schema_is_refused(movable: Database, revision: str, words: str) -> None:
    _move_to(movable, revision)
    with pytest.raises(Unavailable, match=words) as refusal:
        check_head(movable)
    assert refusal.value.code == "schema_unknown"


def test_a_schema_that_is_upgraded_meanwhile_is_gone_on_with(movable: Database) -> None:
    check_head(movable)
    _move_to(movable, "9999")
    check_head(movable)
    with pytest.raises(Unavailable):
        check_head(Database(movable.url.render_as_string(hide_password=False)))
    _move_to(movable, "0001")
    with pytest.raises(Unavailable):
        check_head(movable)


def test_a_newer_schema_is_not_upgraded(movable: Database) -> None:
    _move_to(movable, "9999")
    url = movable.url.render_as_string(hide_password=False)
    with pytest.raises(Unavailable, match="does not know"):
        upgrade(Settings(database_url=url))


def test_default_database_is_under_home(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).database == f"sqlite:///{tmp_path / 'graftery.db'}"


def test_connections_that_a_busy_process_needs_are_kept(postgres_url: str) -> None:
    """Not opened and closed again, request by request."""
    database, opened = Database(postgres_url), []
    event.listen(database.engine, "connect", lambda *_: opened.append(1))
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(db_module.KEPT_CONNECTIONS):
                stack.enter_context(database.read()).execute(text("SELECT 1"))
    assert len(opened) == db_module.KEPT_CONNECTIONS
    database.dispose()

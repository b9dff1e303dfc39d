"""What a name leads to is found once, and again as soon as anybody wrote."""

from __future__ import annotations

import fcntl
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event

from graftery.errors import NotFound
from registry import catalogue
from registry.db import Database
from serving.lookup import MAX_KEPT, DataVersion, Lookup, Ticks, clock_of
from tests.support.world import NETWORK, World


@pytest.fixture
def lookup(world: World) -> Lookup:
    return Lookup(world.database, clock_of(world.database, 60))


def statements(database: Database) -> list[str]:
    seen: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    return seen


def test_nothing_is_asked_twice(world: World, lookup: Lookup) -> None:
    assert lookup.cached(NETWORK, None) is None
    model = lookup.find(NETWORK, None)
    seen = statements(world.database)
    assert lookup.cached(NETWORK, None) is model
    assert lookup.cached(NETWORK, "1") is None and not seen


def test_a_moved_alias_is_seen_by_the_next_request(world: World, lookup: Lookup) -> None:
    assert lookup.find(f"{NETWORK}@stable", None).number == 1
    with world.database.transaction() as session:
        catalogue.set_alias(session, NETWORK, "stable", 2)
    assert lookup.cached(f"{NETWORK}@stable", None) is None
    assert lookup.find(f"{NETWORK}@stable", None).number == 2
    assert lookup.cached(f"{NETWORK}@stable", None) is not None


def test_a_writer_in_another_process_is_seen_too(world: World, lookup: Lookup) -> None:
    lookup.find(NETWORK, None)
    other = Database(world.settings.database)
    with other.transaction() as session:
        catalogue.set_alias(session, NETWORK, "other", 1)
    other.dispose()
    assert lookup.cached(NETWORK, None) is None


def test_what_is_not_there_is_not_kept(world: World, lookup: Lookup) -> None:
    with pytest.raises(NotFound):
        lookup.find("nobody", None)
    assert lookup.cached("nobody", None) is None


def test_a_lost_database_file_is_no_reason_to_trust_what_was_kept(tmp_path: Path) -> None:
    clock = DataVersion(str(tmp_path / "a.db"))
    assert clock() == clock()
    clock.close()
    assert clock() != clock()


def _commit(path: Path, statement: str) -> None:
    other = sqlite3.connect(path)
    other.execute(statement)
    other.commit()
    other.close()


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_every_commit_is_seen_with_and_without_a_write_ahead_log(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "a.db"
    _commit(path, f"PRAGMA journal_mode = {journal}")
    _commit(path, "CREATE TABLE t (n INTEGER)")
    clock = DataVersion(str(path))
    seen = [clock()]
    for number in range(5):
        assert clock() == seen[-1]
        _commit(path, f"INSERT INTO t VALUES ({number})")
        seen.append(clock())
    _commit(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    _commit(path, "INSERT INTO t VALUES (5)")
    seen.append(clock())
    assert len({repr(value) for value in seen}) == len(seen)
    clock.close()
    assert clock() != clock()


_LOCK = """
import fcntl, struct, sys
asked = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 128, 1, 0)
with open(sys.argv[1], "rb+") as index:
    print(struct.unpack("hhqqi", fcntl.fcntl(index, fcntl.F_GETLK, asked))[0])
"""
"""Which lock others hold on the byte by which SQLite knows that somebody uses the index of the write-ahead log."""


def test_other_processes_see_that_the_database_is_in_use(world: World) -> None:
    clock = clock_of(world.database, 0)
    clock()
    path = world.database.url.database
    with world.database.transaction() as session:
        catalogue.set_alias(session, NETWORK, "other", 1)
        done = subprocess.run([sys.executable, "-c", _LOCK, f"{path}-shm"], capture_output=True, text=True, check=True)
    assert int(done.stdout) == fcntl.F_RDLCK
    clock.close()


def test_where_there_is_no_count_of_writes_time_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock, never = Ticks(0.5), Ticks(0)
    first = clock()
    now = 10.49
    assert clock() == first
    now = 10.51
    assert clock() != first
    assert never() != never()


def test_old_names_are_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.lookup.MAX_KEPT", 2)
    lookup = Lookup(world.database, lambda: 1)
    for version in ("1", "2"):
        lookup.find(NETWORK, version)
    lookup.find("eight-teacher", None)
    assert lookup.cached(NETWORK, "1") is None and lookup.cached(NETWORK, "2") is not None
    assert MAX_KEPT > 2

"""What a name leads to now, without a query for every request.

On SQLite, what was found before holds exactly as long as nobody wrote: the head of the write-ahead log's index, which every commit
changes, is read from shared memory; without such a log, `PRAGMA data_version` says it in some more microseconds. On PostgreSQL, it
holds for a short time that is a setting.
"""

from __future__ import annotations

import mmap
import sqlite3
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from registry.db import Database
from serving import models
from serving.branches import Model
from serving.models import Known

MAX_KEPT = 10_000
HEAD_BYTES = 48
"""Of the index of SQLite's write-ahead log: a counter of commits, the log's length, salts and checksums
(https://sqlite.org/walformat.html, "WAL-index header")."""


class Clock(Protocol):
    def __call__(self) -> object:
        """A value that is another one once the database may have changed."""


class Lookup:
    """Models by name and version.

    Args:
        clock: what is found is good for as long as it gives the same value.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._known: Known = {}
        self._found: OrderedDict[tuple[str, str | None], tuple[object, Model]] = OrderedDict()

    def cached(self, name: str, version: str | None) -> Model | None:
        """What was found before, if it still holds. Never waits for the database."""
        kept = self._found.get((name, version))
        return kept[1] if kept is not None and kept[0] == self._clock() else None

    def find(self, name: str, version: str | None) -> Model:
        """What a path names now; see `serving.models.find`."""
        now = self._clock()  # before the query: what changes during it counts as a change after it
        with self._database.read() as session:
            model = models.find(session, name, version, self._known)
        self._found[name, version] = (now, model)
        while len(self._found) > MAX_KEPT:
            self._found.popitem(last=False)
        return model


class DataVersion:
    """SQLite's own count of other connections' commits, on a connection of its own that never writes."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._cursor = self._connection.cursor()

    def __call__(self) -> object:
        with self._lock:
            try:
                return self._cursor.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error:
                return object()  # equal to nothing: ask the database

    def close(self) -> None:
        with self._lock:
            self._connection.close()


class LogHead(DataVersion):
    """The head of the write-ahead log's index, by a pragma where there is no such log.

    The connection stays open: nobody takes the index away under it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._map: mmap.mmap | None = None
        super().__call__()  # the index is there once somebody reads
        with suppress(OSError, ValueError), Path(f"{path}-shm").open("rb") as index:
            self._map = mmap.mmap(index.fileno(), HEAD_BYTES, access=mmap.ACCESS_READ)

    def __call__(self) -> object:
        return super().__call__() if self._map is None else self._map[:HEAD_BYTES]

    def close(self) -> None:
        index, self._map = self._map, None
        if index is not None:
            index.close()
        super().close()


class Ticks:
    """A clock that ticks every `period_s`; 0: never the same twice."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s

    def __call__(self) -> object:
        return object() if self._period_s <= 0 else int(time.monotonic() / self._period_s)

    def close(self) -> None:
        """Nothing is held."""


def clock_of(database: Database, period_s: float) -> LogHead | Ticks:
    """What tells that the database may have changed."""
    path = database.url.database
    return LogHead(path) if database.is_sqlite and path and path != ":memory:" else Ticks(period_s)

"""What a name leads to now, without a query for every request.

On SQLite, what was found before holds exactly as long as nobody wrote, which `PRAGMA data_version` says in microseconds. On PostgreSQL,
it holds for a short time that is a setting.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import OrderedDict
from typing import Protocol

from registry.db import Database
from serving import models
from serving.branches import Model
from serving.models import Known

MAX_KEPT = 10_000


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
    """SQLite's own count of other connections' commits, on a connection of its own that never writes.

    None of SQLite's files may be opened here beside it, however quickly they could be read: as one is closed, POSIX takes
    the process's locks on it away, and the next process to come empties the index that this one has mapped.
    """

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


class Ticks:
    """A clock that ticks every `period_s`; 0: never the same twice."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s

    def __call__(self) -> object:
        return object() if self._period_s <= 0 else int(time.monotonic() / self._period_s)

    def close(self) -> None:
        """Nothing is held."""


def clock_of(database: Database, period_s: float) -> DataVersion | Ticks:
    """What tells that the database may have changed."""
    path = database.url.database
    return DataVersion(path) if database.is_sqlite and path and path != ":memory:" else Ticks(period_s)

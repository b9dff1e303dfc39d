"""The database: engines, transactions, locks and the schema's version, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from graftery.errors import Conflict, Unavailable
from registry.settings import Settings

BUSY_TIMEOUT_S = 30
SILENT_S = 90
# Connections to PostgreSQL that a process keeps. Those beyond are closed after each use, which costs PostgreSQL a process
# each time. Both together, times the processes of a deployment, are to stay under its max_connections (100).
KEPT_CONNECTIONS, SPARE_CONNECTIONS = 16, 4
_WRITES = "graftery_writes"
# A host that is gone without a word is noticed within 25 seconds, not when the kernel gives up (15 minutes):
# seconds, but for `tcp_user_timeout`, which is in milliseconds. What the URL says of them holds.
_CONNECTING = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


def database_url(text_: str) -> URL:
    """Read a URL; `postgresql://` and `postgres://` mean psycopg 3."""
    scheme, colon, rest = text_.partition("://")
    driver = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}.get(scheme, scheme)
    return make_url(f"{driver}{colon}{rest}")


class Database:
    """A pool of connections. One request, or one job's outcome, is one `transaction`."""

    def __init__(self, url: str) -> None:
        self.url = database_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        self._writer = self.engine.execution_options(**{_WRITES: True})
        self.had_head = False
        """Whether `check_head` has found the schema that this code was written for."""

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Write: commit at the end, roll back on an error. On SQLite there is one writer at a time.

        Raises:
            Conflict: another transaction took a name, or deleted what this one names.
            Unavailable: the database did not answer, or chose this transaction to end a deadlock; `store_full`: its disk
                is full.
        """
        try:
            with Session(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
        except IntegrityError as error:
            raise Conflict("Another request changed the same rows", hint="read again, then retry") from error
        except (DBAPIError, PoolTimeout) as error:
            raise _unavailable(error) from error

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Read: nothing is written, and on SQLite nobody is waited for."""
        try:
            with Session(self.engine, expire_on_commit=False) as session:
                yield session
        except (DBAPIError, PoolTimeout) as error:
            raise _unavailable(error) from error

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Read the rows of one moment, however long it takes."""
        engine = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        try:
            with Session(engine, expire_on_commit=False) as session:
                if not self.is_sqlite:
                    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                yield session
        except (DBAPIError, PoolTimeout) as error:
            raise _unavailable(error) from error

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock over all processes that use this database. It ends with the process, or with its connection.

        Raises:
            Unavailable: the database did not answer, or not until the end.
        """
        try:
            with _file_lock(self.url, name) if self.is_sqlite else _advisory_lock(self.engine, name):
                yield
        except (DBAPIError, PoolTimeout) as error:
            raise _unavailable(error) from error

    def dispose(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def _unavailable(error: DBAPIError | PoolTimeout) -> Exception:
    """An `Unavailable` for what a retry may mend (no connection, locked, deadlock, no room); else the error itself."""
    if isinstance(error, DBAPIError) and _full(error):
        return Unavailable(
            "The database's disk is full",
            code="store_full",
            hint="free or add some disk; then delete versions and run `graftery collect`",
        )
    if isinstance(error, DBAPIError) and not _passes(error):
        return error
    return Unavailable("The database did not take the transaction", hint="retry in a moment")


def _full(error: DBAPIError) -> bool:
    # PostgreSQL's disk_full, SQLite's SQLITE_FULL.
    return getattr(error.orig, "sqlstate", None) == "53100" or getattr(error.orig, "sqlite_errorcode", None) == 13


def _passes(error: DBAPIError) -> bool:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    # Classes of SQLSTATE: 08 connection, 40 rollback (deadlock), 53 resources, 55 lock, 57 shutdown.
    if error.connection_invalidated or state[:2] in {"08", "40", "53", "55", "57"}:
        return True
    # SQLite has no SQLSTATE, and neither has a connection that did not come about.
    words = ("locked", "connection")
    return isinstance(error, OperationalError) and not state and any(word in str(error.orig) for word in words)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def dump_json(value: Any) -> str:
    """JSON text; NaN and Inf, which JSON lacks, become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _sqlite_engine(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, json_serializer=dump_json)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 must not begin transactions of its own
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer that begins as a reader cannot wait: it fails at its first write where another has written meanwhile.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _postgresql_engine(url: URL) -> Engine:
    # A client that stands still in a transaction, or whose host is gone without a word, must not keep its rows locked.
    options = [*url.normalized_query.get("options", ()), f"-c idle_in_transaction_session_timeout={SILENT_S * 1000}"]
    own = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    arguments = {**own, "options": " ".join(options)}
    return create_engine(
        url,
        pool_size=KEPT_CONNECTIONS,
        max_overflow=SPARE_CONNECTIONS,
        pool_pre_ping=True,
        json_serializer=dump_json,
        connect_args=arguments,
    )


@contextmanager
def _file_lock(url: URL, name: str) -> Iterator[None]:
    with FileLock(f"{url.database}.{name}.lock"):
        yield


@contextmanager
def _advisory_lock(engine: Engine, name: str) -> Iterator[None]:
    # A connection of its own: the lock must not end with the transaction that it protects.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtext(:name))"), {"name": f"graftery.{name}"})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtext(:name))"), {"name": f"graftery.{name}"})


def _alembic(connection: Connection | None = None) -> Any:
    from alembic.config import Config

    import migrations

    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    config.attributes["connection"] = connection
    return config


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Bring the schema to `revision`. Any number of processes may call this at once: one does the work."""
    from alembic import command

    database = Database(settings.database)
    try:
        with database.lock("migrate"), database._writer.begin() as connection:
            _refuse_newer(_revision(connection))
            command.upgrade(_alembic(connection), revision)
    finally:
        database.dispose()


def downgrade(settings: Settings, revision: str) -> None:
    """Take the schema back to `revision` (`base`: no tables)."""
    from alembic import command

    database = Database(settings.database)
    try:
        with database.lock("migrate"), database._writer.begin() as connection:
            command.downgrade(_alembic(connection), revision)
    finally:
        database.dispose()


def check_head(db: Database) -> None:
    """Make sure that the schema is the one that this code was written for.

    A process that has found it there goes on while a newer version upgrades it: migrations keep what the version before
    reads and writes (docs/operations.md). It is not started anew on such a schema.

    Raises:
        Unavailable: there are no tables yet, or the database does not answer; `schema_unknown`: it has another schema.
    """
    head, steps = _known()
    with db.read() as session:
        found = _revision(session.connection())
    if found is None:
        raise Unavailable(f"The database has schema none, this version needs {head}", hint="run `python -m migrations`")
    if found in steps and found != head:
        raise _unknown(f"The database has schema {found}, this version needs {head}", "run `python -m migrations`")
    if not db.had_head:
        _refuse_newer(found)
    db.had_head = True


def _revision(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


@cache
def _known() -> tuple[str, frozenset[str]]:
    """The revision that this code was written for, and all that lead to it."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(_alembic())
    return str(script.get_current_head()), frozenset(step.revision for step in script.walk_revisions())


def _refuse_newer(found: str | None) -> None:
    head, steps = _known()
    if found is not None and found not in steps:
        raise _unknown(
            f"The database has schema {found}, which this version does not know: it needs {head}",
            "run the version that upgraded it, or take the schema back with that version first",
        )


def _unknown(message: str, hint: str) -> Unavailable:
    return Unavailable(message, code="schema_unknown", hint=hint)

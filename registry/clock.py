"""The database's clock: the one source of "now" for rows, leases and ages, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import Float, TypeDecorator


class UtcTime(TypeDecorator[datetime]):
    """A moment, stored as UTC and given back timezone-aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class _FromNow(FunctionElement[datetime]):
    """The time of this statement, moved by the seconds of its one argument."""

    type = UtcTime()
    inherit_cache = True
    name = "from_now"


@compiles(_FromNow, "sqlite")
def _sqlite(element: _FromNow, compiler: Any, **kw: Any) -> str:
    # Milliseconds are what SQLite's clock has; the zeros make it the text that SQLAlchemy writes, so texts compare.
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', {seconds} || ' seconds') || '000'"


@compiles(_FromNow, "postgresql")
def _postgresql(element: _FromNow, compiler: Any, **kw: Any) -> str:
    # Not now(): that is the start of the transaction, which may have waited for a lock since.
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


def from_now(seconds: float) -> ColumnElement[datetime]:
    """The database's time `seconds` from now (before now where negative)."""
    return _FromNow(literal(float(seconds), Float))


def now() -> ColumnElement[datetime]:
    """The database's time."""
    return from_now(0.0)

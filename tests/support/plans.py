"""How SQLite goes about what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event, text

from registry.db import Database


def plans(database: Database, act: Callable[[], object]) -> list[str]:
    """The plan of each SELECT that `act` has SQLite run."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    with database.read() as session:
        session.execute(text("SELECT 1"))
        run = session.connection().exec_driver_sql
        return ["; ".join(row[3] for row in run(f"EXPLAIN QUERY PLAN {query}", values)) for query, values in asked]

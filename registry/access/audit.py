"""The audit log: a row for each change, written in the change's own transaction. What is refused or rolled back leaves none."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.spec.access import AuditOut
from graftery.spec.wire import Page
from registry.access.caller import caller, check_name, request_id
from registry.access.tables import AuditRow
from registry.pages import clamp, cut, read_cursor


def author(by: str | None = None) -> str | None:
    """Who a change is written down to: the one that is named, else the caller."""
    return by if by is not None else caller().name


def note(
    session: Session, action: str, what: str, name: str | None = None, *, by: str | None = None, **details: Any
) -> None:
    """Write down a change, and refuse it where it is outside the caller's namespaces.

    Args:
        what: the thing itself: `cat:3`, `cat@stable`, a job.
        name: the name that it belongs to; None: to none.

    Raises:
        AccessRefused: `forbidden`; the caller rolls back.
    """
    check_name(name)
    said = {key: value for key, value in details.items() if value is not None}
    session.add(
        AuditRow(by=author(by), action=action, what=what, name=name, request_id=request_id(), details=said or None)
    )
    session.flush()


def list_changes(
    session: Session,
    *,
    by: str | None = None,
    name: str | None = None,
    action: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[AuditOut]:
    """Changes, the newest first."""
    limit, after = clamp(limit), read_cursor(cursor, int)
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit + 1)
    for column, wanted in ((AuditRow.by, by), (AuditRow.name, name), (AuditRow.action, action)):
        if wanted is not None:
            query = query.where(column == wanted)
    if after is not None:
        query = query.where(AuditRow.id < after[0])
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.id,))
    return Page[AuditOut](items=[_out(row) for row in rows], next=following)


def _out(row: AuditRow) -> AuditOut:
    return AuditOut.model_validate({field: getattr(row, field) for field in AuditOut.model_fields})

"""The rows of bytes: who stores or finds bytes touches their row, and only what no row names can be freed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Insert, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.elements import ColumnElement

from registry.clock import from_now, now
from registry.models import BlobRow, ProbesRow, Version
from registry.store import Blob


def upsert(session: Session, table: type[DeclarativeBase]) -> Any:
    """The dialect's INSERT that knows ON CONFLICT."""
    make: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement: Insert = make(table)
    return statement


def touch(session: Session, blob: Blob, *, lease_s: float | None = None) -> None:
    """Make or refresh the row of bytes that are in the store.

    Args:
        lease_s: keep them for so long although nothing names them yet; else for the grace time of `collect`.
    """
    values: dict[str, Any] = {"touched_at": now()}
    if lease_s is not None:
        values["leased_until"] = from_now(lease_s)
    statement = upsert(session, BlobRow).values(digest=blob.digest, size_bytes=blob.size_bytes, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=values))


def _free(older_than_s: float, held: ColumnElement[bool]) -> list[ColumnElement[bool]]:
    return [
        ~select(Version.id).where(Version.digest == BlobRow.digest).exists(),
        ~select(ProbesRow.version_id).where(ProbesRow.digest == BlobRow.digest).exists(),
        ~held,
        BlobRow.touched_at < from_now(-older_than_s),
        or_(BlobRow.leased_until.is_(None), BlobRow.leased_until < now()),
    ]


def unnamed(session: Session, older_than_s: float, held: ColumnElement[bool]) -> list[Blob]:
    """Bytes that no version and no record names, nobody touched within the time, and `held` (of jobs) does not hold."""
    rows = session.execute(select(BlobRow.digest, BlobRow.size_bytes).where(*_free(older_than_s, held)))
    return [Blob(digest, size_bytes) for digest, size_bytes in rows]


def forget(session: Session, digest: str, older_than_s: float, held: ColumnElement[bool]) -> bool:
    """Delete the row of such bytes; False where something names or touched them meanwhile."""
    statement = delete(BlobRow).where(BlobRow.digest == digest, *_free(older_than_s, held)).returning(BlobRow.digest)
    return session.scalar(statement) is not None


def known(session: Session, digests: Collection[str]) -> set[str]:
    """Those of the digests that have a row."""
    return set(session.scalars(select(BlobRow.digest).where(BlobRow.digest.in_(digests))))

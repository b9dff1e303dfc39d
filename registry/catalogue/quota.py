"""What a namespace keeps, and what it may."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from graftery.errors import StoreError
from graftery.spec.names import namespace_of
from registry.clock import now
from registry.models import BlobRow, Module, UploadRow, Version


def _within(column: Any, namespace: str) -> ColumnElement[bool]:
    """SQL: the name is in this namespace."""
    found: ColumnElement[bool] = (
        column.startswith(f"{namespace}.", autoescape=True) if namespace else ~column.contains(".")
    )
    return found


def used_bytes(session: Session, namespace: str, without: str | None = None) -> int:
    """What the versions of a namespace keep, each file once, and what uploads in pieces have announced.

    Args:
        without: an upload that does not count: it is about to become a version.
    """
    files = select(BlobRow.digest, BlobRow.size_bytes).join(Version, Version.digest == BlobRow.digest)
    files = files.join(Module, Module.id == Version.module_id).where(_within(Module.name, namespace)).distinct()
    kept = session.scalar(select(func.coalesce(func.sum(files.subquery().c.size_bytes), 0)))
    waiting = select(func.coalesce(func.sum(UploadRow.size_bytes), 0)).where(_within(UploadRow.name, namespace))
    waiting = waiting.where(UploadRow.expires_at > now())  # one that expired is nobody's any more, collected or not
    announced = session.scalar(waiting.where(UploadRow.id != (without or "")))
    return int(kept or 0) + int(announced or 0)


def require_quota(
    session: Session, name: str, allowed: int | None, *, more: int = 0, without: str | None = None
) -> None:
    """Refuse what would leave a namespace with more than it may keep. In a transaction, the next one waits for this one.

    Args:
        more: bytes that are not among the rows yet.

    Raises:
        StoreError: `quota_exceeded`, with `used_bytes`, `asked_bytes` and `allowed_bytes`.
    """
    if allowed is None:
        return
    namespace = namespace_of(name)
    if session.get_bind().dialect.name == "postgresql":  # on SQLite there is one writer anyway
        lock = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
        session.execute(lock, {"name": f"graftery.quota.{namespace}"})
    used = used_bytes(session, namespace, without)
    if used + more > allowed:
        where = f"the namespace {namespace}" if namespace else "the names without a namespace"
        raise StoreError(
            f"{where} may keep {allowed} bytes; with this it would be {used + more}",
            code="quota_exceeded",
            hint="delete versions, or ask for a larger quota",
            used_bytes=used,
            asked_bytes=more,
            allowed_bytes=allowed,
        )


def shared_blob(session: Session, digest: str, name: str) -> BlobRow | None:
    """The bytes, if a version in the namespace of `name` has them: who may not read them learns nothing of them here."""
    query = select(BlobRow).join(Version, Version.digest == BlobRow.digest)
    query = query.join(Module, Module.id == Version.module_id).where(BlobRow.digest == digest)
    return session.scalar(query.where(_within(Module.name, namespace_of(name))).limit(1))

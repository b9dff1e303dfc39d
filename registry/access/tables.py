"""The tables of keys and of the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from registry.base import Base, CleanText, Json, row_id
from registry.clock import UtcTime, now


class ApiKey(Base):
    """A key: the hashes of its secrets, never a secret. Its name is never given to another one, so the log stays clear."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(CleanText(16), primary_key=True)
    name: Mapped[str] = mapped_column(CleanText(128), unique=True)
    sha256: Mapped[str] = mapped_column(CleanText(64))
    scopes: Mapped[list[str]] = mapped_column(Json)
    namespaces: Mapped[list[str] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    created_by: Mapped[str | None] = mapped_column(CleanText())
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    rotated_at: Mapped[datetime | None] = mapped_column(UtcTime)
    earlier_sha256: Mapped[str | None] = mapped_column(CleanText(64))
    earlier_until: Mapped[datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)


class AuditRow(Base):
    """One change. Rows are only added; they name things by their text, and outlive them."""

    __tablename__ = "audit"

    id: Mapped[int] = row_id()
    at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    by: Mapped[str | None] = mapped_column(CleanText())
    action: Mapped[str] = mapped_column(CleanText(32))
    what: Mapped[str] = mapped_column(CleanText())
    name: Mapped[str | None] = mapped_column(CleanText(128))
    request_id: Mapped[str | None] = mapped_column(CleanText(64))
    details: Mapped[dict[str, Any] | None] = mapped_column(Json)

    __table_args__ = (Index(None, "name", "id"), Index(None, "by", "id"), {"sqlite_autoincrement": True})

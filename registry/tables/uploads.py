"""The tables of uploads that come in pieces."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from registry.base import Base, CleanText
from registry.clock import UtcTime, now


class UploadRow(Base):
    """An upload that comes in pieces, until it is published, given up or expired; any host can take its bytes."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(CleanText(32), primary_key=True)
    name: Mapped[str] = mapped_column(CleanText(128))
    target: Mapped[str] = mapped_column(CleanText(16))
    digest: Mapped[str] = mapped_column(CleanText(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    expires_at: Mapped[datetime] = mapped_column(UtcTime)

    __table_args__ = (Index(None, "name", "digest"), Index(None, "expires_at"))


class UploadPiece(Base):
    """Bytes of an upload that the store has: from `start` to before `stop`."""

    __tablename__ = "upload_pieces"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    stop: Mapped[int] = mapped_column(BigInteger)

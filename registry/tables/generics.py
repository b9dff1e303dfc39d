"""The tables of generic networks. The network itself is a name of kind `generic`: it has no versions, but cells."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from registry.base import Base, CleanText, Json, row_id
from registry.clock import UtcTime, now


class GenericMember(Base):
    """A row or a column: a category or task module by its name, and the version that its cells are of."""

    __tablename__ = "generic_members"

    generic_id: Mapped[int] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"), primary_key=True)
    member_id: Mapped[int] = mapped_column(ForeignKey("modules.id"), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    place: Mapped[int] = mapped_column(Integer)

    __table_args__ = (Index(None, "version_id"), Index(None, "member_id"))


class GenericCell(Base):
    """A category under a task: the network that does it, the last job about it, and what came of that where it was not kept.

    Where there is no row, nothing was ever tried.
    """

    __tablename__ = "generic_cells"

    generic_id: Mapped[int] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"), primary_key=True)
    category_id: Mapped[int] = mapped_column(ForeignKey("modules.id"), primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("modules.id"), primary_key=True)
    version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    precheck: Mapped[dict[str, Any] | None] = mapped_column(Json)
    direct: Mapped[dict[str, Any] | None] = mapped_column(Json)
    rejected: Mapped[dict[str, Any] | None] = mapped_column(Json)

    __table_args__ = (
        Index(None, "version_id"),
        Index(None, "job_id"),
        Index(None, "category_id"),
        Index(None, "task_id"),
    )


class GenericChange(Base):
    """The history of a generic network, in references: it outlives the versions."""

    __tablename__ = "generic_changes"

    id: Mapped[int] = row_id()
    generic_id: Mapped[int] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"))
    action: Mapped[str] = mapped_column(CleanText(16))
    at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    by: Mapped[str | None] = mapped_column(CleanText())
    details: Mapped[dict[str, Any]] = mapped_column(Json)
    undoes: Mapped[int | None] = mapped_column(ForeignKey("generic_changes.id"))

    __table_args__ = (Index(None, "generic_id", "id"),)

"""The tables. Modules have versions, versions name bytes (`blobs`) and each other (`edges`); jobs have events; uploads pieces."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from registry.access.tables import ApiKey, AuditRow
from registry.base import Base, CleanText, Json, row_id
from registry.clock import UtcTime, now
from registry.tables.generics import GenericCell, GenericChange, GenericMember
from registry.tables.uploads import UploadPiece, UploadRow

__all__ = [
    "Alias",
    "AliasChange",
    "ApiKey",
    "AuditRow",
    "Base",
    "BlobRow",
    "CleanText",
    "Edge",
    "GenericCell",
    "GenericChange",
    "GenericMember",
    "IdempotencyKey",
    "Job",
    "JobEventRow",
    "JobPin",
    "Json",
    "Module",
    "ModuleTag",
    "ProbesRow",
    "ReplayRow",
    "UploadPiece",
    "UploadRow",
    "Version",
]


class BlobRow(Base):
    """Bytes in the store. Who stores or finds bytes touches their row; `collect` frees what nothing names."""

    __tablename__ = "blobs"

    digest: Mapped[str] = mapped_column(CleanText(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    touched_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    leased_until: Mapped[datetime | None] = mapped_column(UtcTime)


class Module(Base):
    """A name and its kind. `last_number` only grows, so that the number of a deleted version is never used again."""

    __tablename__ = "modules"

    id: Mapped[int] = row_id()
    name: Mapped[str] = mapped_column(CleanText(128), unique=True)
    kind: Mapped[str] = mapped_column(CleanText(16))
    description: Mapped[str] = mapped_column(CleanText(), default="")
    last_number: Mapped[int] = mapped_column(Integer, default=0)
    row_version: Mapped[int] = mapped_column(Integer, default=1)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    updated_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    # How many versions there were when the last number was `counted_to`: counting many takes long, and who lists names
    # wants it of each. A process that does not know these columns raises the last number, and what it says is void.
    version_count: Mapped[int | None] = mapped_column(Integer)
    counted_to: Mapped[int | None] = mapped_column(Integer)

    # An id is never used twice on SQLite either: ETags and cursors are made from it.
    __table_args__ = (Index(None, "kind", "id"), {"sqlite_autoincrement": True})


class ModuleTag(Base):
    __tablename__ = "module_tags"

    module_id: Mapped[int] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(CleanText(), primary_key=True)

    # With the id: names with a tag are listed by it, and are not looked for one after the other. The shorter one is what
    # versions before had: an upgrade takes nothing away.
    __table_args__ = (Index(None, "tag"), Index(None, "tag", "module_id"))


class Version(Base):
    """An immutable version: bytes, what their owner states, what the verifier found, what the job measured."""

    __tablename__ = "versions"

    id: Mapped[int] = row_id()
    module_id: Mapped[int] = mapped_column(ForeignKey("modules.id"))
    number: Mapped[int] = mapped_column(Integer)
    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))
    manifest: Mapped[dict[str, Any] | None] = mapped_column(Json)
    facts: Mapped[dict[str, Any] | None] = mapped_column(Json)
    parts: Mapped[dict[str, Any] | None] = mapped_column(Json)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(Json)
    tags: Mapped[list[str]] = mapped_column(Json, default=list)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    created_by: Mapped[str | None] = mapped_column(CleanText())
    yanked_at: Mapped[datetime | None] = mapped_column(UtcTime)
    yank_reason: Mapped[str | None] = mapped_column(CleanText())

    module: Mapped[Module] = relationship(lazy="joined", innerjoin=True)
    blob: Mapped[BlobRow] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (
        UniqueConstraint("module_id", "number"),
        UniqueConstraint("module_id", "digest"),
        Index(None, "digest"),
        # The id of a deleted version is never used again: who has it in hand must not reach another one.
        {"sqlite_autoincrement": True},
    )

    @property
    def ref(self) -> str:
        """`name:3`."""
        return f"{self.module.name}:{self.number}"

    @property
    def pin(self) -> str:
        """`name@sha256:...`, which names these bytes for ever."""
        return f"{self.module.name}@sha256:{self.digest}"


class Edge(Base):
    """One step of lineage: `child` was made from `parent`, which had this role."""

    __tablename__ = "edges"

    child_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    role: Mapped[str] = mapped_column(CleanText(32), primary_key=True)

    __table_args__ = (Index(None, "parent_id"),)


class ProbesRow(Base):
    """What a network answered at its probe inputs when a worker saw it first: a record in the store."""

    __tablename__ = "probes"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))
    device_class: Mapped[dict[str, Any]] = mapped_column(Json)
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    made_by: Mapped[str | None] = mapped_column(CleanText())

    blob: Mapped[BlobRow] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (Index(None, "digest"),)


class ReplayRow(Base):
    """A network asked again at its probes after a transplant."""

    __tablename__ = "replays"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    compared: Mapped[str] = mapped_column(CleanText(16))
    same: Mapped[bool] = mapped_column(Boolean)
    identical: Mapped[bool] = mapped_column(Boolean)
    reason: Mapped[str | None] = mapped_column(CleanText())


class Alias(Base):
    __tablename__ = "aliases"

    module_id: Mapped[int] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"), primary_key=True)
    alias: Mapped[str] = mapped_column(CleanText(64), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    updated_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    updated_by: Mapped[str | None] = mapped_column(CleanText())

    version: Mapped[Version] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (Index(None, "version_id"),)


class AliasChange(Base):
    """The history of aliases, in numbers: it outlives the versions. A rollback takes back what was on top."""

    __tablename__ = "alias_changes"

    id: Mapped[int] = row_id()
    module_id: Mapped[int] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"))
    alias: Mapped[str] = mapped_column(CleanText(64))
    old: Mapped[int | None] = mapped_column(Integer)
    new: Mapped[int | None] = mapped_column(Integer)
    rollback: Mapped[bool] = mapped_column(Boolean, default=False)
    at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    by: Mapped[str | None] = mapped_column(CleanText())

    __table_args__ = (Index(None, "module_id", "alias", "id"),)


class Job(Base):
    """A job. `attempt` is the fencing token of the worker that has it; `last_seq` numbers its events."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(CleanText(32), primary_key=True)
    kind: Mapped[str] = mapped_column(CleanText(16))
    state: Mapped[str] = mapped_column(CleanText(16), default="queued")
    priority: Mapped[int] = mapped_column(Integer, default=0)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    request: Mapped[dict[str, Any]] = mapped_column(Json)
    pinned: Mapped[dict[str, str]] = mapped_column(Json)
    recipe: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    crashes: Mapped[int] = mapped_column(Integer, default=0)
    worker: Mapped[str | None] = mapped_column(CleanText())
    lease_until: Mapped[datetime | None] = mapped_column(UtcTime)
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    progress: Mapped[dict[str, Any] | None] = mapped_column(Json)
    checkpoint_digest: Mapped[str | None] = mapped_column(ForeignKey("blobs.digest"))
    checkpoint_step: Mapped[int | None] = mapped_column(Integer)
    result: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error_code: Mapped[str | None] = mapped_column(CleanText(64))
    error_message: Mapped[str | None] = mapped_column(CleanText())
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    last_seq: Mapped[int] = mapped_column(Integer, default=0)

    checkpoint: Mapped[BlobRow | None] = relationship(lazy="joined")

    __table_args__ = (
        Index(None, "state", "priority", "created_at", "id"),
        Index(None, "created_at", "id"),
        Index(None, "checkpoint_digest"),
    )


class JobPin(Base):
    """A version that a queued or running job needs: it cannot be deleted meanwhile. Gone when the job ends."""

    __tablename__ = "job_pins"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)

    __table_args__ = (Index(None, "version_id"),)


class JobEventRow(Base):
    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    type: Mapped[str] = mapped_column(CleanText(16))
    at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    data: Mapped[dict[str, Any]] = mapped_column(Json)


class IdempotencyKey(Base):
    """The answer to a POST with an Idempotency-Key, written in the transaction of its outcome."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(CleanText(), primary_key=True)
    method: Mapped[str] = mapped_column(CleanText(8))
    path: Mapped[str] = mapped_column(CleanText())
    body_sha256: Mapped[str] = mapped_column(CleanText(64))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=now())
    status: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[dict[str, str] | None] = mapped_column(Json)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (Index(None, "created_at"),)

"""Rows of uploads that come in pieces. The bytes are the store's; a piece is noted once it is durable there."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from uuid import uuid4

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from graftery.errors import Conflict, NotFound
from graftery.spec.uploading import UploadOut, UploadRequest
from registry.access import caller
from registry.catalogue.blobs import upsert
from registry.clock import from_now, now
from registry.models import UploadPiece, UploadRow
from registry.pieces import Piece, missing_parts, reached

_MISSING_SHOWN = 10_000


def begin_upload(session: Session, request: UploadRequest, part_bytes: int, expires_s: float) -> tuple[UploadRow, bool]:
    """The upload of these bytes to this name that is there already, else a new one; and whether it is new."""
    caller.check_name(request.name)
    query = select(UploadRow).where(UploadRow.name == request.name, UploadRow.digest == request.digest)
    query = query.where(UploadRow.target == request.target, UploadRow.size_bytes == request.size_bytes)
    found = session.scalar(query.where(UploadRow.expires_at > now()).order_by(UploadRow.created_at).limit(1))
    if found is not None:
        found.expires_at = from_now(expires_s)
        session.flush()
        return found, False
    fields = request.model_dump()
    row = UploadRow(id=uuid4().hex, part_bytes=part_bytes, expires_at=from_now(expires_s), **fields)
    session.add(row)
    session.flush()
    return row, True


def get_upload(session: Session, upload: str) -> UploadRow:
    """The row of an upload.

    Raises:
        NotFound: there is none, or it has expired.
    """
    row = session.scalar(select(UploadRow).where(UploadRow.id == upload, UploadRow.expires_at > now()))
    if row is None:
        raise NotFound(f"There is no upload {upload}", hint="it expired, was given up, or is published")
    return row


def note_piece(session: Session, upload: str, piece: Piece, expires_s: float) -> None:
    """The store has these bytes.

    Raises:
        NotFound: the upload was given up meanwhile.
    """
    extended = update(UploadRow).where(UploadRow.id == upload).values(expires_at=from_now(expires_s))
    if session.scalar(extended.returning(UploadRow.id)) is None:
        raise NotFound(f"There is no upload {upload}", hint="it expired, was given up, or is published")
    statement = upsert(session, UploadPiece).values(upload_id=upload, start=piece.start, stop=piece.stop)
    longer = {"set_": {"stop": piece.stop}, "where": UploadPiece.stop < piece.stop}
    session.execute(statement.on_conflict_do_update(index_elements=["upload_id", "start"], **longer))


def pieces_of(session: Session, upload: str) -> list[Piece]:
    """What the store has of an upload, in order."""
    query = select(UploadPiece.start, UploadPiece.stop).where(UploadPiece.upload_id == upload)
    return [Piece(start, stop) for start, stop in session.execute(query.order_by(UploadPiece.start))]


def whole_upload(session: Session, upload: str, name: str) -> tuple[UploadRow, list[Piece]]:
    """An upload of which nothing is missing.

    Raises:
        NotFound: there is none for this name.
        Conflict: `upload_incomplete`, with the first parts that are `missing`.
    """
    row = get_upload(session, upload)
    if row.name != name:
        raise NotFound(f"The upload {upload} is for {row.name}, not for {name}")
    pieces = pieces_of(session, upload)
    if reached(pieces) < row.size_bytes:
        missing = list(islice(missing_parts(pieces, row.size_bytes, row.part_bytes), 100))
        raise Conflict(
            f"{len(missing)} or more parts of the upload {upload} have not come",
            code="upload_incomplete",
            hint="send them, then publish again",
            missing=missing,
            offset=reached(pieces),
        )
    return row, pieces


def upload_out(session: Session, row: UploadRow) -> UploadOut:
    pieces = pieces_of(session, row.id)
    return UploadOut.model_validate(
        {
            **{field: getattr(row, field) for field in UploadOut.model_fields if hasattr(row, field)},
            "offset": reached(pieces),
            "missing": list(islice(missing_parts(pieces, row.size_bytes, row.part_bytes), _MISSING_SHOWN)),
        }
    )


def forget_upload(session: Session, upload: str) -> bool:
    """Delete the row; False where there was none."""
    session.execute(delete(UploadPiece).where(UploadPiece.upload_id == upload))
    return session.scalar(delete(UploadRow).where(UploadRow.id == upload).returning(UploadRow.id)) is not None


def forget_expired(session: Session, limit: int = 1000) -> list[str]:
    """Delete the rows of uploads to which nothing came in time; their ids, for the store to drop what it has."""
    query = select(UploadRow.id).where(UploadRow.expires_at <= now()).limit(limit)
    return [upload for upload in list(session.scalars(query)) if forget_upload(session, upload)]


def known_uploads(session: Session, uploads: Collection[str]) -> set[str]:
    """Those that have a row."""
    return set(session.scalars(select(UploadRow.id).where(UploadRow.id.in_(uploads))))

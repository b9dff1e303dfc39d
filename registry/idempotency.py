"""Idempotency keys: a POST that is sent again gets the first answer again, and does its work once.

`remember`, the work and `keep` are one transaction: when the work fails, the key is forgotten with it; a second request
with the key waits for the first one's end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import delete
from sqlalchemy.orm import Session

from graftery.errors import Conflict
from registry.catalogue.blobs import upsert
from registry.clock import from_now
from registry.models import IdempotencyKey

KEPT_S = 24 * 3600.0


@dataclass(frozen=True)
class Reply:
    """The answer to the first request."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def remember(session: Session, key: str, method: str, path: str, body_sha256: str) -> Reply | None:
    """Take a key, or learn how the request that has it was answered.

    Returns:
        None: the key is this request's; it does its work and calls `keep`.

    Raises:
        Conflict: `idempotency_conflict`: the key belongs to another request.
    """
    asked = {"method": method, "path": path, "body_sha256": body_sha256}
    statement = upsert(session, IdempotencyKey).values(key=key, **asked).on_conflict_do_nothing()
    if session.scalar(statement.returning(IdempotencyKey.key)) is not None:
        return None
    row = session.get_one(IdempotencyKey, key)
    if any(getattr(row, name) != value for name, value in asked.items()) or row.status is None:
        raise Conflict(
            f"The Idempotency-Key {key!r} was used for another request",
            code="idempotency_conflict",
            hint="use a new key for each request, and the same one only to send it again",
        )
    return Reply(row.status, row.body or b"", row.headers or {})


def keep(session: Session, key: str, reply: Reply) -> None:
    """Keep the answer for whoever sends the request again."""
    row = session.get_one(IdempotencyKey, key)
    row.status, row.body, row.headers = reply.status, reply.body, reply.headers
    session.flush()


def forget_old(session: Session, older_than_s: float = KEPT_S) -> int:
    """Drop keys that are older; how many."""
    statement = delete(IdempotencyKey).where(IdempotencyKey.created_at < from_now(-older_than_s))
    return len(session.scalars(statement.returning(IdempotencyKey.key)).all())

"""Files that are at hand before they are published: from a body, put together from pieces, or in the store already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from sqlalchemy.orm import Session

from app.deps import Service
from graftery.errors import GrafteryError, NotFound
from graftery.spec.names import namespace_of
from graftery.spec.problems import status_of
from registry import catalogue
from registry.catalogue import blobs
from registry.pieces import Piece
from registry.settings import Settings
from registry.store import Blob


@dataclass(frozen=True)
class Received:
    """A file that is at hand and has the digest that was promised; `upload`: whose pieces it was put together from."""

    path: Path
    blob: Blob
    publish: Callable[[], Blob]
    upload: str | None = None


@asynccontextmanager
async def of_upload(service: Service, name: str, upload: str) -> AsyncIterator[Received]:
    """An upload whose pieces have all come. It is dropped once it is published, or refused for what it holds.

    Raises:
        NotFound: there is no such upload for this name.
        Conflict: `upload_incomplete`.
        GrafteryError: `digest_mismatch`.
    """
    digest, pieces = await run_in_threadpool(_whole, service, upload, name)
    spent = at_hand = False
    try:
        async with contextmanager_in_threadpool(service.store.assembled(upload, pieces)) as staging:
            blob = staging.finish()
            if blob.digest != digest:
                raise GrafteryError(
                    f"what has come has the sha256 {blob.digest}, and {digest} was announced",
                    code="digest_mismatch",
                    hint="the file was changed while it was sent: start again",
                )
            at_hand = True
            yield Received(staging.path, blob, staging.publish, upload)
        spent = True
    except GrafteryError as error:
        # Anything else may pass: the pieces stay, and the request can be sent again. So where other bytes are corrupt than these.
        spent = status_of(error.code) == 422 or (error.code == "store_corrupt" and not at_hand)
        raise
    finally:
        if spent:
            await run_in_threadpool(drop_upload, service, upload)


def _whole(service: Service, upload: str, name: str) -> tuple[str, list[Piece]]:
    with service.database.read() as session:
        row, pieces = catalogue.whole_upload(session, upload, name)
        return row.digest, pieces


def drop_upload(service: Service, upload: str) -> None:
    """The row first: pieces without a row are swept, a row without pieces would promise them."""
    with service.database.transaction() as session:
        catalogue.forget_upload(session, upload)
    service.store.drop_upload(upload)


def of_store(service: Service, name: str, digest: str) -> Received:
    """Bytes that a version in the namespace of `name` has; they stay for the grace time of `collect`.

    Raises:
        NotFound: there is no such version, or the store lacks its bytes.
    """
    with service.database.transaction() as session:
        row = catalogue.shared_blob(session, digest, name)
        if row is None or not service.store.exists(digest):
            raise no_bytes(name, digest)
        blob = Blob(row.digest, row.size_bytes)
        blobs.touch(session, blob)
    return Received(service.store.local_path(digest), blob, lambda: blob)


def no_bytes(name: str, digest: str) -> NotFound:
    namespace = namespace_of(name)
    where = f"the namespace {namespace}" if namespace else "any name without a namespace"
    return NotFound(f"no version in {where} has the bytes {digest[:12]}...", hint="send them")


def check_quota(service: Service, name: str, size_bytes: int, digest: str | None) -> None:
    """Refuse early what would be over the namespace's quota; `keep_quota` has the last word.

    Args:
        digest: of the bytes that will come, where it is known: those that are there take no room.

    Raises:
        StoreError: `quota_exceeded`.
    """
    allowed = service.settings.quota(namespace_of(name))
    if allowed is not None:
        with service.database.read() as session:
            known = digest is not None and catalogue.shared_blob(session, digest, name) is not None
            if not known:
                catalogue.require_quota(session, name, allowed, more=size_bytes)


def keep_quota(session: Session, settings: Settings, name: str, upload: str | None = None) -> None:
    """After the rows are written, and before they are committed. Raises as `check_quota` does."""
    catalogue.require_quota(session, name, settings.quota(namespace_of(name)), without=upload)

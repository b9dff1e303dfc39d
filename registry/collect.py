"""Frees bytes that no row names.

Bytes are stored first and named after, so bytes without a name may be about to get one. Two ages protect them: that of
their row (a publish touches it) and that in the store (storing them, known or not, makes them young). Both must be over
the grace time, and each is looked at under its own lock: the row's and the store's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from registry import catalogue, idempotency, jobs
from registry.catalogue import blobs
from registry.db import Database
from registry.drivers import Stored
from registry.store import Blob, Store

_BATCH = 500
# So long after its end a job's progress can be looked at step by step.
PROGRESS_KEPT_S = 24 * 3600.0


def collect(db: Database, store: Store, grace_s: float, dry_run: bool = False) -> dict[str, int | bool]:
    """Free bytes that nothing names and nobody touched within the grace time; sweep what uploads left behind.

    Old Idempotency-Keys go too, and the progress events of jobs that ended over a day ago.

    Args:
        dry_run: count, but remove nothing.

    Returns:
        `freed_bytes` and `freed` (how many), `kept_bytes` and `kept`, `swept` (staged files and abandoned uploads), `dry_run`.
    """
    with db.lock("collect"):
        freed = _unnamed(db, store, grace_s, dry_run) | _orphans(db, store, grace_s, dry_run)
        kept = [found for found in store.stored() if found.digest not in freed]
        swept = 0 if dry_run else store.sweep(grace_s) + sweep_uploads(db, store, grace_s)
        if not dry_run:
            _forget(db)
    return {
        "freed_bytes": sum(freed.values()),
        "freed": len(freed),
        "kept_bytes": sum(found.size_bytes for found in kept),
        "kept": len(kept),
        "swept": swept,
        "dry_run": dry_run,
    }


def _forget(db: Database) -> None:
    """Delete rows that nobody asks for any more, in transactions that others need not wait for."""
    with db.transaction() as session:
        idempotency.forget_old(session)
    some = 1
    while some:
        with db.transaction() as session:
            some = jobs.forget_progress(session, PROGRESS_KEPT_S)


def _unnamed(db: Database, store: Store, grace_s: float, dry_run: bool) -> dict[str, int]:
    """Bytes with a row that no version and no job names."""
    with db.read() as session:
        found = blobs.unnamed(session, grace_s, jobs.held_bytes())
    if dry_run:
        return {blob.digest: blob.size_bytes for blob in found if store.exists(blob.digest)}
    return {blob.digest: size for blob in found if (size := _free_row(db, store, blob, grace_s)) is not None}


def _free_row(db: Database, store: Store, blob: Blob, grace_s: float) -> int | None:
    # Inside one transaction, which has the row: who stored the bytes before this look keeps them by their age, who
    # comes after it stores them again.
    with db.transaction() as session:
        if not blobs.forget(session, blob.digest, grace_s, jobs.held_bytes()):
            return None
        size = store.free(blob.digest, grace_s)
        if size is None and store.exists(blob.digest):
            session.rollback()  # stored again a moment ago: the row stays for who is about to name it
        return size


def discard(db: Database, store: Store, digest: str) -> bool:
    """Free bytes at once that were just replaced (a checkpoint by the next one), unless a row names or leases them.

    No grace time: who stores the very same bytes at this moment may find them gone. For a checkpoint that costs time.
    """
    with db.transaction() as session:
        if not blobs.forget(session, digest, -1.0, jobs.held_bytes()):
            return False
        return store.delete(digest)


def _orphans(db: Database, store: Store, grace_s: float, dry_run: bool) -> dict[str, int]:
    """Bytes without a row: what a crash between the two left."""
    freed: dict[str, int] = {}
    old = (found for found in store.stored() if found.age_s > grace_s)
    while batch := list(islice(old, _BATCH)):
        for found in _without_row(db, batch):
            size = found.size_bytes if dry_run else store.free(found.digest, grace_s)
            if size is not None:
                freed[found.digest] = size
    return freed


def sweep_uploads(db: Database, store: Store, grace_s: float) -> int:
    """Drop uploads in pieces that have expired, and pieces that a crash left without a row; how many uploads."""
    with db.transaction() as session:
        gone = catalogue.forget_expired(session)
    old = (kept.upload for kept in store.uploads() if kept.age_s > grace_s)
    while batch := list(islice(old, _BATCH)):
        with db.read() as session:
            known = catalogue.known_uploads(session, batch)
        gone += [upload for upload in batch if upload not in known]
    for upload in set(gone):
        store.drop_upload(upload)
    return len(set(gone))


def _without_row(db: Database, batch: list[Stored]) -> Iterator[Stored]:
    with db.read() as session:
        known = blobs.known(session, [found.digest for found in batch])
    return (found for found in batch if found.digest not in known)

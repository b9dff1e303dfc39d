from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from sqlalchemy import select

from registry.clock import from_now, now
from registry.db import Database
from registry.models import BlobRow


def test_it_is_now_in_utc(database: Database) -> None:
    with database.read() as session:
        found = session.scalar(select(now()))
    assert found is not None and found.utcoffset() == timedelta(0)
    assert abs(found - datetime.now(UTC)) < timedelta(seconds=5)


def test_seconds_from_now(database: Database) -> None:
    with database.read() as session:
        before, at, after = session.execute(select(from_now(-3600.25), now(), from_now(90.5))).one()
    assert (at - before, after - at) == (timedelta(seconds=3600.25), timedelta(seconds=90.5))


def test_times_of_the_database_and_of_python_compare(database: Database) -> None:
    """One row has its time from the database, the other from Python, in another zone: the query sees them in order."""
    zone = timezone(timedelta(hours=5))
    with database.transaction() as session:
        session.add(BlobRow(digest="a" * 64, size_bytes=1, touched_at=datetime.now(zone) - timedelta(seconds=10)))
        session.add(BlobRow(digest="b" * 64, size_bytes=1, touched_at=now()))
        session.add(BlobRow(digest="c" * 64, size_bytes=1, touched_at=datetime.now(zone) + timedelta(seconds=10)))
    with database.read() as session:
        ordered = session.scalars(select(BlobRow).order_by(BlobRow.touched_at)).all()
        assert [row.digest[0] for row in ordered] == ["a", "b", "c"]
        assert all(row.touched_at.utcoffset() == timedelta(0) for row in ordered)
        past = session.scalars(select(BlobRow.digest).where(BlobRow.touched_at < from_now(-5))).all()
        exact = session.scalars(select(BlobRow.digest).where(BlobRow.touched_at == ordered[1].touched_at)).all()
    assert (past, exact) == (["a" * 64], ["b" * 64])

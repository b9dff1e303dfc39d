from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from graftery.spec.certificate import DeviceClass
from graftery.spec.uploading import UploadRequest
from registry import catalogue, idempotency, jobs
from registry.catalogue import blobs
from registry.clock import from_now
from registry.collect import collect, discard
from registry.db import Database
from registry.models import BlobRow, IdempotencyKey, Job
from registry.pieces import Piece
from registry.settings import Settings
from registry.store import Blob, Store
from tests.support.crowd import in_threads

HOUR_S = 3600.0


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings)


def age(database: Database, store: Store, *digests: str, by_s: float = 2 * HOUR_S) -> None:
    """Let bytes and their rows look as if nobody had touched them for two hours."""
    for digest in digests:
        os.utime(store.local_path(digest), (time.time() - by_s,) * 2)
    with database.transaction() as session:
        session.execute(update(BlobRow).where(BlobRow.digest.in_(digests)).values(touched_at=from_now(-by_s)))


def publish(database: Database, blob: Blob, name: str = "cat") -> str:
    with database.transaction() as session:
        return catalogue.publish(session, name=name, kind="category", blob=blob)[0].ref


def delete(database: Database, ref: str) -> None:
    with database.transaction() as session:
        catalogue.delete_version(session, ref)


def rows(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(BlobRow.digest)))


def test_named_bytes_stay(database: Database, store: Store) -> None:
    blob = store.put_bytes(b"named")
    publish(database, blob)
    age(database, store, blob.digest)
    assert collect(database, store, HOUR_S) == {
        "freed": 0, "freed_bytes": 0, "kept": 1, "kept_bytes": 5, "swept": 0, "dry_run": False,
    }  # fmt: skip
    assert store.exists(blob.digest)


def test_bytes_of_a_deleted_version_are_freed(database: Database, store: Store) -> None:
    one, two = store.put_bytes(b"one"), store.put_bytes(b"second")
    delete(database, publish(database, one))
    publish(database, two)
    age(database, store, one.digest, two.digest)
    assert collect(database, store, HOUR_S) == {
        "freed": 1, "freed_bytes": 3, "kept": 1, "kept_bytes": 6, "swept": 0, "dry_run": False,
    }  # fmt: skip
    assert (store.exists(one.digest), store.exists(two.digest)) == (False, True)
    assert rows(database) == {two.digest}


def test_progress_of_jobs_that_ended_long_ago_is_forgotten(database: Database, store: Store) -> None:
    ids = {}
    for name, since_s in (("old", 25 * HOUR_S), ("young", 23 * HOUR_S), ("running", None)):
        with database.transaction() as session:
            ids[name] = jobs.submit(session, kind="transplant", request={}, pinned={}).id
            assert jobs.claim(session, "w", 60)
            for step in range(3):
                jobs.progress(session, ids[name], 1, {"step": step})
            if since_s is not None:
                jobs.fail(session, ids[name], 1, "job_failed", "no reason")
                session.execute(update(Job).where(Job.id == ids[name]).values(finished_at=from_now(-since_s)))
    for dry_run in (True, False):
        collect(database, store, HOUR_S, dry_run)
        with database.read() as session:
            told = {
                name: [(event.seq, event.type) for event in jobs.events_after(session, job_id)]
                for name, job_id in ids.items()
            }
            assert jobs.get(session, ids["old"]).progress == {"step": 2}
        assert len(told["old"]) == (6 if dry_run else 3)
    assert told["old"] == [(1, "state"), (2, "state"), (6, "state")]
    assert (len(told["young"]), len(told["running"])) == (6, 5)


def test_bytes_with_another_name_stay(database: Database, store: Store) -> None:
    blob = store.put_bytes(b"shared")
    delete(database, publish(database, blob, "cat"))
    publish(database, blob, "dog")
    age(database, store, blob.digest)
    assert collect(database, store, HOUR_S)["freed"] == 0
    assert store.exists(blob.digest)


def test_the_probes_of_a_network_stay_as_long_as_it(database: Database, store: Store) -> None:
    record = store.put_bytes(b"what it answered")
    here = DeviceClass(device="cpu", model="m", kernels="k", torch="2", threads=1)
    ref = publish(database, store.put_bytes(b"a network"))
    with database.transaction() as session:
        catalogue.keep_probes(session, catalogue.resolve(session, ref).id, record, here, "job x")
    age(database, store, record.digest)
    assert collect(database, store, HOUR_S)["freed"] == 0
    assert store.exists(record.digest) and not discard(database, store, record.digest)
    delete(database, ref)
    assert collect(database, store, HOUR_S)["freed"] == 1
    assert not store.exists(record.digest)


def test_what_was_touched_stays_for_the_grace_time(database: Database, store: Store) -> None:
    blob = store.put_bytes(b"deleted just now")
    delete(database, publish(database, blob))
    assert collect(database, store, HOUR_S)["kept"] == 1
    age(database, store, blob.digest)
    assert collect(database, store, HOUR_S)["freed"] == 1


@pytest.mark.parametrize("young", ["row", "bytes"])
def test_both_ages_count(database: Database, store: Store, young: str) -> None:
    blob = store.put_bytes(b"text")
    delete(database, publish(database, blob))
    age(database, store, blob.digest)
    if young == "row":
        with database.transaction() as session:
            blobs.touch(session, blob)
    else:
        store.put_bytes(b"text")
    assert collect(database, store, HOUR_S)["freed"] == 0
    assert store.exists(blob.digest)
    assert rows(database) == {blob.digest}


def test_a_lease_keeps_bytes(database: Database, store: Store) -> None:
    blob = store.put_bytes(b"leased")
    with database.transaction() as session:
        blobs.touch(session, blob, lease_s=60)
    age(database, store, blob.digest)
    assert collect(database, store, HOUR_S)["freed"] == 0
    with database.transaction() as session:
        blobs.touch(session, blob, lease_s=-60)
    age(database, store, blob.digest)
    assert collect(database, store, HOUR_S)["freed"] == 1


def test_an_orphan_of_a_crash_is_freed(database: Database, store: Store) -> None:
    """The bytes were stored, and the process died before it wrote a row."""
    orphan, young = store.put_bytes(b"orphan"), store.put_bytes(b"on its way")
    age(database, store, orphan.digest)
    assert collect(database, store, HOUR_S)["freed_bytes"] == 6
    assert (store.exists(orphan.digest), store.exists(young.digest)) == (False, True)


def test_a_row_without_bytes_goes(database: Database, store: Store) -> None:
    """A crash after the bytes went and before the row did."""
    blob = store.put_bytes(b"gone")
    delete(database, publish(database, blob))
    age(database, store, blob.digest)
    store.delete(blob.digest)
    assert collect(database, store, HOUR_S)["freed"] == 0
    assert rows(database) == set()


def test_checkpoints_stay_while_their_job_lives(database: Database, store: Store) -> None:
    first, second = store.put_bytes(b"first"), store.put_bytes(b"second")
    with database.transaction() as session:
        job = jobs.submit(session, kind="transplant", request={}, pinned={})
        jobs.claim(session, "w", 60)
        jobs.checkpoint(session, job.id, 1, 1, first)
        jobs.checkpoint(session, job.id, 1, 2, second)
    age(database, store, first.digest, second.digest)
    assert collect(database, store, HOUR_S)["freed"] == 1
    assert (store.exists(first.digest), store.exists(second.digest)) == (False, True)
    with database.transaction() as session:
        jobs.finish(session, job.id, 1, {})
    assert collect(database, store, HOUR_S)["freed"] == 1
    assert not store.exists(second.digest)


def test_a_replaced_checkpoint_is_discarded_at_once(database: Database, store: Store) -> None:
    first, second = store.put_bytes(b"first"), store.put_bytes(b"second")
    with database.transaction() as session:
        job = jobs.submit(session, kind="transplant", request={}, pinned={})
        jobs.claim(session, "w", 60)
        jobs.checkpoint(session, job.id, 1, 1, first)
        jobs.checkpoint(session, job.id, 1, 2, second)
    assert discard(database, store, first.digest)
    assert not discard(database, store, first.digest)
    assert not discard(database, store, second.digest)
    assert (store.exists(first.digest), store.exists(second.digest)) == (False, True)
    assert rows(database) == {second.digest}


def test_what_has_a_name_is_not_discarded(database: Database, store: Store) -> None:
    blob = store.put_bytes(b"named")
    publish(database, blob)
    assert not discard(database, store, blob.digest)
    assert store.exists(blob.digest)


def test_a_dry_run_frees_nothing(database: Database, store: Store) -> None:
    orphan, deleted = store.put_bytes(b"orphan"), store.put_bytes(b"deleted")
    delete(database, publish(database, deleted))
    age(database, store, orphan.digest, deleted.digest)
    (store.staging / "abandoned").touch()
    os.utime(store.staging / "abandoned", (0, 0))
    found = collect(database, store, HOUR_S, dry_run=True)
    assert (found["freed"], found["freed_bytes"], found["dry_run"]) == (2, 13, True)
    assert store.exists(orphan.digest) and store.exists(deleted.digest)
    assert list(store.staging.iterdir()) != []
    assert collect(database, store, HOUR_S)["freed"] == 2


def test_staging_and_old_keys_are_swept(database: Database, store: Store) -> None:
    (store.staging / "abandoned").touch()
    os.utime(store.staging / "abandoned", (0, 0))
    with database.transaction() as session:
        idempotency.remember(session, "key", "POST", "/", "0" * 64)
        session.execute(update(IdempotencyKey).values(created_at=from_now(-100 * HOUR_S)))
    with store.stage() as staging:
        staging.write(b"an upload that runs")
        assert collect(database, store, HOUR_S)["swept"] == 1
        staging.publish()
    with database.read() as session:
        assert session.scalars(select(IdempotencyKey)).all() == []


def test_two_at_once_count_each_byte_once(database: Database, store: Store) -> None:
    made = [store.put_bytes(str(index).encode()) for index in range(20)]
    age(database, store, *(blob.digest for blob in made))
    results = in_threads(lambda _: collect(database, store, HOUR_S), 3)
    assert sum(int(result["freed"]) for result in results) == 20


def test_it_waits_for_another_one(database: Database, store: Store) -> None:
    thread = threading.Thread(target=collect, args=(database, store, HOUR_S))
    with database.lock("collect"):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()


def test_bytes_in_a_bucket(database: Database, tmp_path: Path, bucket_url: str) -> None:
    store = Store(Settings(home=tmp_path / "b", store_url=bucket_url, free_bytes=0))
    named, orphan = store.put_bytes(b"named"), store.put_bytes(b"orphan")
    publish(database, named)
    assert collect(database, store, HOUR_S)["freed"] == 0
    time.sleep(2.1)  # a bucket counts in seconds
    assert collect(database, store, 1.0)["freed_bytes"] == 6
    assert store.exists(named.digest) and not store.exists(orphan.digest)


def test_a_publish_meanwhile_keeps_its_bytes(database: Database, store: Store) -> None:
    """Publishers bring old, unnamed bytes back while collect runs again and again: no name ever lacks its bytes."""
    texts = [f"text {index}".encode() for index in range(12)]
    made = [store.put_bytes(text) for text in texts]
    for blob in made:
        delete(database, publish(database, blob))
    age(database, store, *(blob.digest for blob in made))
    done = threading.Event()

    def work(index: int) -> None:
        if index == 0:
            while not done.is_set():
                collect(database, store, HOUR_S)
            return
        for text in texts[index - 1 :: 2]:
            publish(database, store.put_bytes(text), f"again{index}")
        if index == 1:
            time.sleep(0.2)
            done.set()

    in_threads(work, 3)
    collect(database, store, HOUR_S)
    assert all(b"".join(store.read(blob.digest)) == text for blob, text in zip(made, texts, strict=True))


Step = Callable[[Database, Store], None]


def _store_again(database: Database, store: Store) -> None:
    store.put_bytes(b"contested")


def _publish_again(database: Database, store: Store) -> None:
    publish(database, store.put_bytes(b"contested"), "dog")


@pytest.mark.parametrize("step", [_store_again, _publish_again])
def test_a_publish_after_the_candidates_were_read(
    database: Database, store: Store, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    """The narrowest moment: collect has chosen the bytes, and only then does a publisher store them again."""
    blob = store.put_bytes(b"contested")
    delete(database, publish(database, blob))
    age(database, store, blob.digest)
    chosen = blobs.unnamed

    def unnamed(*args: object) -> list[Blob]:
        found = chosen(*args)  # type: ignore[arg-type]
        assert found == [blob]
        step(database, store)
        return found

    monkeypatch.setattr(blobs, "unnamed", unnamed)
    assert collect(database, store, HOUR_S)["freed"] == 0
    assert store.exists(blob.digest)
    assert rows(database) == {blob.digest}


class TestUploadsInPieces:
    def begin(self, database: Database, store: Store, expires_s: float) -> str:
        request = UploadRequest(name="cat", size_bytes=4, digest="ab" * 32)
        with database.transaction() as session:
            upload = catalogue.begin_upload(session, request, 4, expires_s)[0].id
            store.open_upload(upload, 4)
            store.write_piece(upload, 0, b"some")
            catalogue.note_piece(session, upload, Piece(0, 4), expires_s)
        return upload

    def test_what_expired_is_dropped(self, database: Database, store: Store) -> None:
        self.begin(database, store, -1.0)
        kept = self.begin(database, store, HOUR_S)
        assert collect(database, store, HOUR_S, dry_run=True)["swept"] == 0
        assert collect(database, store, HOUR_S)["swept"] == 1
        assert [each.upload for each in store.uploads()] == [kept]
        with database.read() as session:
            assert catalogue.pieces_of(session, kept) == [Piece(0, 4)]

    def test_pieces_without_a_row_go_after_the_grace_time(self, database: Database, store: Store) -> None:
        store.open_upload("0" * 32, 4)
        assert collect(database, store, HOUR_S)["swept"] == 0
        assert collect(database, store, -10.0)["swept"] == 1
        assert list(store.uploads()) == []

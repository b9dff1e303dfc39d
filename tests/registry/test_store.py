"""One suite for every driver: what a folder promises, a bucket promises."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import obstore
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from graftery.errors import StoreError, Unavailable
from registry import buckets
from registry import store as store_module
from registry.drivers import READ_BYTES, FolderDriver, Stored, key_of
from registry.settings import Settings
from registry.store import Blob, Store
from tests.support.crowd import in_threads

DATA = bytes(range(256)) * 9000  # over two chunks


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def staged(store: Store) -> list[Path]:
    return list(store.staging.iterdir())


def everything(store: Store) -> dict[str, int]:
    return {found.digest: found.size_bytes for found in store.stored()}


def test_bytes_come_back(store: Store) -> None:
    blob = store.put_bytes(DATA)
    assert blob == Blob(digest_of(DATA), len(DATA))
    assert b"".join(store.read(blob.digest)) == DATA
    assert store.exists(blob.digest)
    assert store.size(blob.digest) == len(DATA)
    assert everything(store) == {blob.digest: len(DATA)}
    assert staged(store) == []


def test_a_file_is_copied(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    assert store.put_file(path) == Blob(digest_of(DATA), len(DATA))
    assert path.read_bytes() == DATA


def test_no_bytes_are_bytes(store: Store) -> None:
    blob = store.put_bytes(b"")
    assert store.size(blob.digest) == 0
    assert b"".join(store.read(blob.digest)) == b""
    assert store.local_path(blob.digest).read_bytes() == b""


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(start=st.integers(0, len(DATA)), length=st.integers(0, len(DATA)))
def test_ranges(folder_store: Store, start: int, length: int) -> None:
    digest = folder_store.put_bytes(DATA).digest
    assert b"".join(folder_store.read(digest, start, start + length)) == DATA[start : start + length]


def test_range_of_each_driver(store: Store) -> None:
    digest = store.put_bytes(DATA).digest
    assert b"".join(store.read(digest, 5, 2_000_000)) == DATA[5:2_000_000]
    assert b"".join(store.read(digest, len(DATA) - 3)) == DATA[-3:]
    assert b"".join(store.read(digest, len(DATA) - 3, len(DATA) + 100)) == DATA[-3:]
    assert b"".join(store.read(digest, 7, 7)) == b""


def test_missing_bytes_are_reported_at_once(store: Store) -> None:
    unknown = digest_of(b"unknown")
    assert not store.exists(unknown)
    for ask in (store.read, store.size, store.local_path):
        with pytest.raises(StoreError) as error:
            ask(unknown)
        assert error.value.code == "store_corrupt"


def test_staging_gives_digest_and_file_before_it_publishes(store: Store) -> None:
    with store.stage() as staging:
        staging.write(DATA[:1000])
        staging.write(DATA[1000:])
        blob = staging.finish()
        assert staging.path.read_bytes() == DATA
        assert not store.exists(blob.digest)
        assert staging.publish() == blob
    assert store.exists(blob.digest)


def test_what_is_not_published_leaves_nothing(store: Store) -> None:
    with store.stage() as staging:
        staging.write(DATA)
        staging.finish()
    with pytest.raises(RuntimeError), store.stage() as staging:
        staging.write(DATA)
        raise RuntimeError
    assert staged(store) == []
    assert everything(store) == {}


def test_known_bytes_are_kept_once_and_are_young_again(store: Store) -> None:
    digest = store.put_bytes(DATA).digest
    time.sleep(1.2)
    assert next(store.stored()).age_s > 1
    store.put_bytes(DATA)
    assert next(store.stored()).age_s < 1.1
    assert everything(store) == {digest: len(DATA)}
    assert store.free(digest, older_than_s=60) is None
    assert store.exists(digest)


def test_a_broken_copy_is_replaced(folder_store: Store) -> None:
    path = folder_store.local_path(folder_store.put_bytes(DATA).digest)
    path.chmod(0o644)
    path.write_bytes(DATA[:10])
    folder_store.put_bytes(DATA)
    assert path.read_bytes() == DATA


def test_free_and_delete(store: Store) -> None:
    digest = store.put_bytes(DATA).digest
    assert store.free(digest, older_than_s=-10) == len(DATA)
    assert not store.exists(digest)
    assert store.free(digest, older_than_s=-10) is None
    store.put_bytes(DATA)
    assert store.delete(digest)
    assert not store.delete(digest)
    with pytest.raises(StoreError):
        store.local_path(digest)


def test_local_path(store: Store) -> None:
    digest = store.put_bytes(DATA).digest
    path = store.local_path(digest)
    assert path.read_bytes() == DATA
    assert store.local_path(digest) == path
    assert path.name == digest


def test_layout_of_a_folder(folder_store: Store, tmp_path: Path) -> None:
    digest = folder_store.put_bytes(DATA).digest
    path = tmp_path / "home/store/sha256" / digest[:2] / digest[2:4] / digest
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o444


def test_a_copy_from_a_bucket_is_verified_and_swept(bucket_url: str, tmp_path: Path) -> None:
    import boto3

    store = Store(Settings(home=tmp_path, store_url=bucket_url, free_bytes=0))
    digest = store.put_bytes(DATA).digest
    copy = store.local_path(digest)
    assert store.sweep(60) == 0
    assert store.sweep(-1) == 1
    assert not copy.exists()
    bucket, prefix = bucket_url.removeprefix("s3://").split("/", 1)
    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).put_object(
        Bucket=bucket, Key=f"{prefix}/{key_of(digest)}", Body=b"other"
    )
    with pytest.raises(StoreError, match="other bytes"):
        store.local_path(digest)
    assert not copy.exists()
    assert staged(store) == []


def test_a_bucket_is_read_in_pieces(bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with a time limit of its own: a whole file may take longer than any."""
    size, spans, get_range = buckets.PIECE_BYTES, list[int](), obstore.get_range

    def noted(store: Any, path: str, *, start: int, end: int) -> Any:
        spans.append(end - start)
        return get_range(store, path, start=start, end=end)

    monkeypatch.setattr(obstore, "get_range", noted)
    monkeypatch.setattr(obstore, "get", Mock(side_effect=AssertionError("this is one request, however long it takes")))
    data = os.urandom(2 * size + 5)
    store = Store(Settings(home=tmp_path, store_url=bucket_url, free_bytes=0))
    digest = store.put_bytes(data).digest
    assert store.local_path(digest).read_bytes() == data
    assert spans == [size, size, 5]
    for start, end in ((0, size), (1, size + 1), (size - 1, size + 1), (size, 2 * size), (3, 3 + 2 * size)):
        spans.clear()
        chunks = list(store.read(digest, start, end))
        assert b"".join(chunks) == data[start:end] and max(map(len, chunks)) <= READ_BYTES
        assert max(spans) <= size and sum(spans) == end - start


@pytest.mark.parametrize("how", ["kernel", "announced"])
def test_a_copy_from_a_bucket_finds_no_room(
    bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store = Store(Settings(home=tmp_path, store_url=bucket_url, free_bytes=1000))
    digest = store.put_bytes(DATA).digest
    if how == "kernel":
        full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
        monkeypatch.setattr("registry.buckets.tempfile.mkstemp", full)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1000 + len(DATA) - 1))
    with pytest.raises(StoreError) as error:
        store.local_path(digest)
    assert error.value.code == "store_full"


def test_large_files_go_to_a_bucket_in_parts(bucket_url: str, tmp_path: Path) -> None:
    import boto3

    data = os.urandom(12 * 1024**2)
    store = Store(Settings(home=tmp_path, store_url=bucket_url, free_bytes=0))
    digest = store.put_bytes(data).digest
    bucket, prefix = bucket_url.removeprefix("s3://").split("/", 1)
    found = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).head_object(
        Bucket=bucket, Key=f"{prefix}/{key_of(digest)}"
    )
    assert int(found["ETag"].strip('"').partition("-")[2]) >= 2  # S3 counts the parts there
    assert b"".join(store.read(digest)) == data


def test_signed_urls_of_each_driver(store: Store, bucket_url: str, tmp_path: Path) -> None:
    assert store.signed_url(store.put_bytes(DATA).digest) is None  # nobody asked for it
    folder = Store(Settings(home=tmp_path / "f", free_bytes=0, redirect_downloads_s=60))
    assert folder.signed_url(folder.put_bytes(DATA).digest) is None
    bucket = Store(Settings(home=tmp_path / "b", store_url=bucket_url, free_bytes=0, redirect_downloads_s=60))
    url = bucket.signed_url(bucket.put_bytes(DATA).digest)
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == DATA


def test_sweep_takes_only_what_is_old(store: Store) -> None:
    kept = store.put_bytes(DATA).digest
    abandoned, active = store.staging / "abandoned", store.staging / "active"
    abandoned.write_bytes(b"a")
    active.write_bytes(b"b")
    os.utime(abandoned, (time.time() - 7200,) * 2)
    assert store.sweep(3600) == 1
    assert staged(store) == [active]
    assert store.exists(kept)


def test_sweep_leaves_what_is_in_use_however_old_it_is(store: Store) -> None:
    """A file that waits for its check for longer than the grace time."""
    with store.stage() as staging, store.scratch() as folder:
        staging.write(DATA)
        staging.finish()
        (folder / "part").write_bytes(b"a part")
        for path in (staging.path, folder):
            os.utime(path, (time.time() - 7200,) * 2)
        assert store.sweep(3600) == 0
        assert (folder / "part").exists() and staging.publish().digest == digest_of(DATA)


def test_many_store_the_same_at_once(store: Store) -> None:
    blobs = in_threads(lambda _: store.put_bytes(DATA), 6)
    assert set(blobs) == {Blob(digest_of(DATA), len(DATA))}
    assert b"".join(store.read(blobs[0].digest)) == DATA
    assert staged(store) == []


def test_free_never_takes_what_is_stored_meanwhile(folder_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`free` has looked at the age of old bytes and is about to remove them when somebody stores them again."""
    blob = folder_store.put_bytes(DATA)
    os.utime(folder_store.local_path(blob.digest), (time.time() - 3600,) * 2)
    looked, stat = threading.Event(), FolderDriver.stat

    def slow_stat(driver: FolderDriver, digest: str) -> Stored | None:
        found = stat(driver, digest)
        if threading.current_thread() is freeing:
            looked.set()
            time.sleep(0.3)
        return found

    freeing = threading.Thread(target=folder_store.free, args=(blob.digest, 60))
    monkeypatch.setattr(FolderDriver, "stat", slow_stat)
    freeing.start()
    assert looked.wait(10)
    folder_store.put_bytes(DATA)
    freeing.join(10)
    assert b"".join(folder_store.read(blob.digest)) == DATA


class TestFullDisk:
    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        folder = tmp_path / "small"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        if done.returncode != 0:
            pytest.skip("mounting a small disk needs root")
        yield folder
        subprocess.run(["umount", folder], check=True)

    def test_a_real_one(self, small_disk: Path) -> None:
        store = Store(Settings(home=small_disk, free_bytes=0))
        kept = store.put_bytes(b"x" * 300_000)
        with pytest.raises(StoreError) as error, store.stage() as staging:
            for _ in range(100):
                staging.write(os.urandom(50_000))
        assert error.value.code == "store_full"
        assert staged(store) == []
        assert everything(store) == {kept.digest: 300_000}
        store.put_bytes(b"y" * 300_000)

    def test_the_kernel_says_so(self, folder_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = folder_store.put_bytes(b"kept")

        def mkstemp(dir: Path) -> tuple[int, str]:
            (dir / "full").touch()
            return os.open("/dev/full", os.O_WRONLY), str(dir / "full")

        monkeypatch.setattr(store_module.tempfile, "mkstemp", mkstemp)
        with pytest.raises(StoreError) as error:
            folder_store.put_bytes(DATA)
        assert error.value.code == "store_full"
        assert staged(folder_store) == []
        assert everything(folder_store) == {kept.digest: 4}

    def test_at_publishing(self, folder_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def mkdir(*_args: object, **_kw: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "mkdir", mkdir)
        with pytest.raises(StoreError) as error:
            folder_store.put_bytes(DATA)
        assert error.value.code == "store_full"
        assert staged(folder_store) == []
        assert everything(folder_store) == {}

    def test_some_is_always_left_free(self, tmp_path: Path) -> None:
        free = shutil.disk_usage(tmp_path).free
        store = Store(Settings(home=tmp_path, free_bytes=free + 2**30))
        with pytest.raises(StoreError) as error:
            store.put_bytes(b"a")
        assert error.value.code == "store_full"

    def test_the_disk_fills_while_a_body_comes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = Store(Settings(home=tmp_path, free_bytes=1000))
        with pytest.raises(StoreError), store.stage() as staging:
            staging.write(b"a" * 500)
            monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1400))
            staging.write(b"b" * 400)
            staging.write(b"c" * 401)
        assert staged(store) == []

    def test_what_is_announced_is_refused_at_once(self, folder_store: Store, tmp_path: Path) -> None:
        too_much = shutil.disk_usage(tmp_path).free + 2**30
        with pytest.raises(StoreError), folder_store.stage(too_much):
            pytest.fail("the body would be read")

    def test_other_errors_stay_what_they_are(self, folder_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def mkdir(*_args: object, **_kw: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", mkdir)
        with pytest.raises(PermissionError):
            folder_store.put_bytes(DATA)
        assert staged(folder_store) == []


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    store = Store(Settings(home=tmp_path / "home", store_url=f"file://{tmp_path / 'elsewhere'}", free_bytes=0))
    store.put_bytes(DATA)
    assert (tmp_path / "elsewhere/sha256").is_dir()
    assert not (tmp_path / "home").exists()


def test_a_bucket_that_does_not_answer_may_do_so_later(
    tmp_path: Path, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(Settings(home=tmp_path, store_url=bucket_url, free_bytes=0))
    known = store.put_bytes(DATA)
    from obstore.exceptions import GenericError, PermissionDeniedError

    asks = {
        "put": lambda: store.put_bytes(b"new"),
        "head": lambda: store.exists(known.digest),
        "get_range": lambda: store.local_path(known.digest),
        "delete": lambda: store.delete(known.digest),
        "list": lambda: list(store.stored()),
    }
    for verb, ask in asks.items():
        for raised, expected in ((GenericError("refused"), Unavailable), (PermissionDeniedError("403"), StoreError)):
            with monkeypatch.context() as patch, pytest.raises(expected):
                patch.setattr(f"obstore.{verb}", Mock(side_effect=raised))
                ask()
    assert store.exists(known.digest)

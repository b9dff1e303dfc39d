"""Pieces of uploads: what a folder promises, a bucket promises."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftery.errors import NotFound, StoreError
from registry import pieces as pieces_module
from registry.pieces import FolderPieces, Piece, missing_parts, reached
from registry.settings import Settings
from registry.store import Store
from tests.support.crowd import in_threads

UPLOAD = "0" * 32
DATA = random.Random(0).randbytes(100_000)

pieces_st = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda p: Piece(p[0], p[0] + p[1])))


@given(pieces=pieces_st)
def test_reached_is_the_first_hole(pieces: list[Piece]) -> None:
    there = {at for start, stop in pieces for at in range(start, stop)}
    assert reached(pieces) == next(at for at in range(100) if at not in there)


@given(pieces=pieces_st, size=st.integers(1, 70), part=st.integers(1, 25))
def test_missing_parts_are_those_that_lack_a_byte(pieces: list[Piece], size: int, part: int) -> None:
    there = {at for start, stop in pieces for at in range(start, stop)}
    wanted = [
        n for n in range(-(-size // part)) if any(at not in there for at in range(n * part, min((n + 1) * part, size)))
    ]
    assert list(missing_parts(pieces, size, part)) == wanted


def write(store: Store, *pieces: tuple[int, int]) -> list[Piece]:
    for start, stop in pieces:
        store.write_piece(UPLOAD, start, DATA[start:stop])
    return [Piece(*piece) for piece in pieces]


def content(store: Store, pieces: list[Piece]) -> bytes:
    with store.assembled(UPLOAD, pieces) as staging:
        found = staging.path.read_bytes()
        assert staging.finish().size_bytes == len(found)
    return found


def test_pieces_in_any_order_that_overlap(store: Store) -> None:
    store.open_upload(UPLOAD, len(DATA))
    pieces = write(store, (50_000, 100_000), (0, 30_000), (20_000, 60_000), (20_000, 25_000))
    assert content(store, pieces) == DATA
    assert content(store, pieces) == DATA  # it can be done again


def test_what_is_put_together_is_published_and_dropped(store: Store) -> None:
    store.open_upload(UPLOAD, len(DATA))
    pieces = write(store, (0, 100_000))
    with store.assembled(UPLOAD, pieces) as staging:
        blob = staging.publish()
    store.drop_upload(UPLOAD)
    assert b"".join(store.read(blob.digest)) == DATA
    assert list(store.uploads()) == []
    assert list(store.staging.iterdir()) == []


def test_several_at_once(store: Store) -> None:
    store.open_upload(UPLOAD, len(DATA))
    pieces = [(at, at + 10_000) for at in range(0, 100_000, 10_000)]
    in_threads(lambda n: write(store, pieces[n]), 10)
    assert content(store, [Piece(*piece) for piece in pieces]) == DATA


def test_kept_and_dropped(store: Store) -> None:
    store.open_upload(UPLOAD, len(DATA))
    write(store, (0, 10))
    (kept,) = store.uploads()
    assert kept.upload == UPLOAD and -2 < kept.age_s < 60
    store.drop_upload(UPLOAD)
    store.drop_upload(UPLOAD)
    assert list(store.uploads()) == []


def test_a_lost_piece_is_said(store: Store) -> None:
    store.open_upload(UPLOAD, len(DATA))
    pieces = write(store, (0, 100_000))
    store.drop_upload(UPLOAD)
    with pytest.raises(StoreError) as error, store.assembled(UPLOAD, pieces):
        pytest.fail("it is not there")
    assert error.value.code == "store_corrupt"
    assert list(store.staging.iterdir()) == []


class TestAFolder:
    def test_what_was_dropped_takes_nothing(self, folder_store: Store) -> None:
        folder_store.open_upload(UPLOAD, 10)
        folder_store.drop_upload(UPLOAD)
        with pytest.raises(NotFound):
            write(folder_store, (0, 10))
        assert list(folder_store.uploads()) == []

    def test_published_bytes_are_never_written_to(self, folder_store: Store) -> None:
        """A request that was thought dead sends other bytes for a piece when the upload is whole."""
        folder_store.open_upload(UPLOAD, len(DATA))
        pieces = write(folder_store, (0, 100_000))
        with folder_store.assembled(UPLOAD, pieces) as staging:
            digest = staging.publish().digest
            folder_store.write_piece(UPLOAD, 0, b"late")
        assert b"".join(folder_store.read(digest)) == DATA

    def test_who_still_writes_is_waited_for(self, folder_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        folder_store.open_upload(UPLOAD, len(DATA))
        pieces = write(folder_store, (0, 100_000))
        began, pwrite = threading.Event(), os.pwrite

        def slow(*args: object) -> int:
            began.set()
            time.sleep(0.3)
            return pwrite(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(pieces_module.os, "pwrite", slow)
        writer = threading.Thread(target=write, args=(folder_store, (0, 50_000)))
        writer.start()
        assert began.wait(10)
        with folder_store.assembled(UPLOAD, pieces):
            writer.join(0.1)
            assert not writer.is_alive()

    def test_who_opened_the_file_before_it_was_whole_does_not_write_after(
        self, folder_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder_store.open_upload(UPLOAD, 4)
        folder_store.write_piece(UPLOAD, 0, b"good")
        opened, go, flock = threading.Event(), threading.Event(), pieces_module.fcntl.flock

        def late(file: object, operation: int) -> None:
            # Of the writer alone: what is staged is locked by the same call.
            if operation == pieces_module.fcntl.LOCK_SH and threading.current_thread() is writer:
                opened.set()
                go.wait(10)
            flock(file, operation)  # type: ignore[arg-type]

        monkeypatch.setattr(pieces_module.fcntl, "flock", late)
        writer = threading.Thread(target=folder_store.write_piece, args=(UPLOAD, 0, b"evil"))
        writer.start()
        assert opened.wait(10)
        with folder_store.assembled(UPLOAD, [Piece(0, 4)]) as staging:
            go.set()
            writer.join(10)
            assert staging.path.read_bytes() == b"good"

    def test_a_disk_without_room(self, tmp_path: Path) -> None:
        store = Store(Settings(home=tmp_path, free_bytes=0))
        with pytest.raises(StoreError) as error:
            store.open_upload(UPLOAD, shutil.disk_usage(tmp_path).free + 2**40)
        assert error.value.code == "store_full"
        assert list(store.uploads()) == []

    def test_a_disk_that_fills_up(self, folder_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        folder_store.open_upload(UPLOAD, len(DATA))
        pieces = write(folder_store, (0, 50_000))

        def full(*_args: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(pieces_module.os, "pwrite", full)
            with pytest.raises(StoreError) as error:
                write(folder_store, (50_000, 100_000))
        assert error.value.code == "store_full"
        assert content(folder_store, pieces + write(folder_store, (50_000, 100_000))) == DATA


def test_a_folder_leaves_no_space_unused(tmp_path: Path) -> None:
    """The last piece first: the file is sparse."""
    made = FolderPieces(tmp_path)
    made.open(UPLOAD)
    made.write(UPLOAD, 50_000_000, b"x" * 4096)
    assert (tmp_path / "uploads" / UPLOAD).stat().st_blocks * 512 < 1_000_000

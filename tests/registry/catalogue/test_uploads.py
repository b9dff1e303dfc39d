from __future__ import annotations

import pytest
from sqlalchemy import update

from graftery.errors import Conflict, NotFound
from graftery.spec.uploading import UploadRequest
from registry import catalogue
from registry.clock import from_now
from registry.db import Database
from registry.models import UploadRow
from registry.pieces import Piece
from tests.support.crowd import in_threads

DIGEST = "ab" * 32
REQUEST = UploadRequest(name="team.cat", size_bytes=100, digest=DIGEST)


def begin(database: Database, request: UploadRequest = REQUEST) -> tuple[str, bool]:
    with database.transaction() as session:
        row, created = catalogue.begin_upload(session, request, 30, 3600.0)
        return row.id, created


def note(database: Database, upload: str, *pieces: tuple[int, int]) -> None:
    for piece in pieces:
        with database.transaction() as session:
            catalogue.note_piece(session, upload, Piece(*piece), 3600.0)


def expire(database: Database, upload: str) -> None:
    with database.transaction() as session:
        session.execute(update(UploadRow).where(UploadRow.id == upload).values(expires_at=from_now(-1.0)))


def test_the_same_file_for_the_same_name_goes_on(database: Database) -> None:
    upload, created = begin(database)
    assert created
    assert begin(database) == (upload, False)
    for other in ({"name": "team.dog"}, {"digest": "cd" * 32}, {"target": "samples"}, {"size_bytes": 99}):
        found, created = begin(database, REQUEST.model_copy(update=other))
        assert created and found != upload


def test_what_is_there_and_what_is_missing(database: Database) -> None:
    upload, _ = begin(database)
    note(database, upload, (0, 10), (60, 90), (0, 40), (0, 20))
    with database.read() as session:
        out = catalogue.upload_out(session, catalogue.get_upload(session, upload))
        assert catalogue.pieces_of(session, upload) == [Piece(0, 40), Piece(60, 90)]
        with pytest.raises(Conflict) as error:
            catalogue.whole_upload(session, upload, "team.cat")
    assert (out.offset, out.missing, out.part_bytes) == (40, [1, 3], 30)
    assert (error.value.code, error.value.details["missing"]) == ("upload_incomplete", [1, 3])
    note(database, upload, (40, 60), (90, 100))
    with database.read() as session:
        assert catalogue.whole_upload(session, upload, "team.cat")[0].digest == DIGEST
        with pytest.raises(NotFound, match=r"team\.cat"):
            catalogue.whole_upload(session, upload, "team.dog")


def test_pieces_noted_at_once(database: Database) -> None:
    upload, _ = begin(database)
    in_threads(lambda n: note(database, upload, (n * 20, n * 20 + 20), (0, 5 * n + 1)), 5)
    with database.read() as session:
        assert catalogue.upload_out(session, catalogue.get_upload(session, upload)).missing == []
        assert catalogue.pieces_of(session, upload)[0] == Piece(0, 21)


def test_an_upload_that_expired_is_gone(database: Database) -> None:
    upload, _ = begin(database)
    note(database, upload, (0, 100))
    expire(database, upload)
    with database.read() as session, pytest.raises(NotFound):
        catalogue.get_upload(session, upload)
    other, created = begin(database)
    assert created
    with database.transaction() as session:
        assert catalogue.forget_expired(session) == [upload]
        assert catalogue.known_uploads(session, [upload, other]) == {other}
    with pytest.raises(NotFound):
        note(database, upload, (0, 1))


def test_a_piece_keeps_an_upload_from_expiring(database: Database) -> None:
    upload, _ = begin(database)
    with database.transaction() as session:
        session.execute(update(UploadRow).values(expires_at=from_now(1.0)))
    note(database, upload, (0, 1))
    with database.read() as session:
        assert (
            catalogue.get_upload(session, upload).expires_at - catalogue.get_upload(session, upload).created_at
        ).seconds > 60

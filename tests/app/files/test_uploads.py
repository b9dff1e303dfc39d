"""Uploads that end early or badly: refused with a code, and nothing is left."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.files.uploads import CHUNK_BYTES, CHUNK_PIECES, _stream, promised_digest
from app.main import create_app
from graftery.errors import GrafteryError, StoreError
from graftery.spec.limits import Limits
from registry import store as store_module
from registry.settings import Settings
from registry.store import Store
from tests.support import files
from tests.support.http import code_of, in_store, repr_digest
from tests.support.uvicorn import Server, serving
from tests.support.verifiers import SharedVerifier

PATHS = ("/v1/modules/cat", "/v1/samples/cat", "/v1/teachers/cat?cut=features")


@pytest.fixture
def small(app_settings: Settings, verifier: SharedVerifier) -> Iterator[TestClient]:
    """The app with a cap of 100 kB a file."""
    app = create_app(app_settings.model_copy(update={"limits": Limits(file_bytes=100_000)}))
    app.state.service = replace(app.state.service, verifier=verifier)
    with TestClient(app) as client:
        yield client


def _nothing_left(client: TestClient, home: Path) -> None:
    assert in_store(home) == []
    assert client.get("/v1/modules").json()["items"] == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"", b"hello", bytes(1000)])
def test_what_is_no_file_is_refused(client: TestClient, app_settings: Settings, path: str, body: bytes) -> None:
    response = client.put(path, content=body)
    assert response.status_code == 422, response.text
    assert code_of(response) != "request_invalid"
    _nothing_left(client, app_settings.home)


@pytest.mark.parametrize("path", PATHS)
def test_a_stated_length_over_the_cap_is_refused_unread(small: TestClient, path: str) -> None:
    read = []

    def body() -> Iterator[bytes]:
        read.append(1)
        yield b"x"

    response = small.put(path, content=body(), headers={"content-length": "100001"})
    assert (response.status_code, code_of(response)) == (413, "file_too_large")


@pytest.mark.parametrize("path", PATHS)
def test_the_cap_holds_while_streaming(small: TestClient, app_settings: Settings, path: str) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 1000

    response = small.put(path, content=body())
    assert (response.status_code, code_of(response)) == (413, "file_too_large")
    assert response.json()["limit_bytes"] == 100_000
    _nothing_left(small, app_settings.home)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-encoding": "gzip"},
    ],
)
def test_bodies_that_are_not_the_bytes_themselves(client: TestClient, headers: dict[str, str]) -> None:
    response = client.put("/v1/modules/cat", content=files.file_bytes(files.parts()[0]), headers=headers)
    assert (response.status_code, code_of(response)) == (415, "unsupported_media_type")


def test_a_disk_without_room_is_507(app_settings: Settings, verifier: SharedVerifier) -> None:
    app = create_app(app_settings.model_copy(update={"free_bytes": 2**62}))
    app.state.service = replace(app.state.service, verifier=verifier)
    with TestClient(app) as client:
        response = client.put("/v1/modules/cat", content=files.file_bytes(files.parts()[0]))
        assert (response.status_code, code_of(response)) == (507, "store_full")
        _nothing_left(client, app_settings.home)


@pytest.mark.parametrize("path", PATHS)
def test_a_disk_that_fills_up_meanwhile_is_507(
    client: TestClient, app_settings: Settings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    written = []
    data = files.file_bytes(files.teacher())

    def fill_up(self: Any, data: bytes) -> None:
        written.append(len(data))
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full:
        def __init__(self, file: Any) -> None:
            self._file = file

        write = fill_up

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    opened = store_module.os.fdopen
    monkeypatch.setattr(store_module.os, "fdopen", lambda *args: Full(opened(*args)))
    response = client.put(path, content=data)
    assert (response.status_code, code_of(response)) == (507, "store_full")
    assert written
    monkeypatch.undo()
    _nothing_left(client, app_settings.home)


def test_a_disk_that_is_full_when_the_parts_are_stored(
    client: TestClient, app_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, path: Path) -> None:
        raise StoreError("The disk is full", code="store_full")

    monkeypatch.setattr(store_module.Store, "put_file", full)
    response = client.put("/v1/teachers/cat?cut=features", content=files.file_bytes(files.teacher()))
    assert (response.status_code, code_of(response)) == (507, "store_full")
    _nothing_left(client, app_settings.home)


def test_a_row_that_cannot_be_written_leaves_no_row_and_only_unnamed_bytes(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry import catalogue

    data = files.file_bytes(files.parts()[0])

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the database is gone")

    monkeypatch.setattr(catalogue, "publish", fail)
    response = client.put("/v1/modules/cat", content=data)
    assert (response.status_code, code_of(response)) == (500, "internal")
    monkeypatch.undo()
    assert client.get("/v1/modules").json()["items"] == []
    assert app.state.service.store.exists(hashlib.sha256(data).hexdigest())  # collect frees it


@pytest.mark.parametrize("size", [1, 200_000])
def test_a_body_is_written_in_order_and_held_in_few_pieces(tmp_path: Path, size: int) -> None:
    pieces = [bytes([number % 251]) * size for number in range(300)]
    held: list[int] = []

    class Body:
        async def stream(self) -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

    with Store(Settings(home=tmp_path)).stage() as staging:
        write_all = staging.write_all
        staging.write_all = lambda some: (held.append(len(some)), write_all(some))[1]  # type: ignore[assignment]
        blob = asyncio.run(_stream(Body(), staging, limit=10**9))  # type: ignore[arg-type]
        assert staging.path.read_bytes() == b"".join(pieces)
    assert blob.digest == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert max(held) <= min(CHUNK_PIECES, -(-CHUNK_BYTES // size))


def test_promised_digests() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    header = repr_digest(b"x")
    assert promised_digest(header) == digest
    assert promised_digest(f"sha-512=:AAAA:, {header}") == digest
    assert promised_digest(f"{header}, sha-512=:AAAA:") == digest
    assert promised_digest("sha-512=:AAAA:") is None
    assert promised_digest(None) is None
    for wrong in ("sha-256=:AAAA:", "sha-256=:!:", "sha-256=::"):
        with pytest.raises(GrafteryError):
            promised_digest(wrong) if "!" not in wrong else promised_digest("sha-256=:A:")


@pytest.fixture
def server(app: FastAPI) -> Iterator[Server]:
    with serving(app) as made:
        yield made


def _request(path: str, length: int) -> bytes:
    return f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_hangs_up_leaves_nothing(server: Server, app_settings: Settings, path: str) -> None:
    with socket.create_connection(server.address) as connection:
        connection.sendall(_request(path, 50_000_000) + b"x" * 3_000_000)
        _until(lambda: in_store(app_settings.home) != [])
    _until(lambda: in_store(app_settings.home) == [])
    assert server.get("/v1/modules")["items"] == []


def test_a_refusal_reaches_a_client_that_is_still_sending(server: Server) -> None:
    body = files.samples()
    with socket.create_connection(server.address) as connection:
        connection.sendall(_request("/v1/samples/cat", len(body)) + body)
        assert b" 201 " in connection.recv(65_536)
    with socket.create_connection(server.address) as connection:
        connection.sendall(_request("/v1/modules/cat", 2**32 - 1) + b"x" * 100_000)
        answer = b""
        while chunk := connection.recv(65_536):  # ends: the server closes what would go on for 4 GiB
            answer += chunk
    assert b" 409 " in answer
    assert b"connection: close" in answer.lower()
    assert b"kind_conflict" in answer


def test_an_upload_that_waits_for_its_answer_is_told_to_go_on(server: Server) -> None:
    body = files.samples()
    head = _request("/v1/samples/cat", len(body))[:-2] + b"Expect: 100-continue\r\n\r\n"
    with socket.create_connection(server.address) as connection:
        connection.sendall(head)
        assert b"100 Continue" in connection.recv(65_536)
        connection.sendall(body)
        assert b" 201 " in connection.recv(65_536)
        head = head.replace(b"/v1/samples", b"/v1/modules")
    with socket.create_connection(server.address) as connection:
        connection.sendall(head)
        assert b" 409 " in connection.recv(65_536)  # refused without the body


def _until(true: Any, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)

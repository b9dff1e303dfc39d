"""Downloads that the store itself answers: the service leads there, and the client goes along and checks what it gets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from graftery.client import transfer
from graftery.client.http import Client
from graftery.client.transfer import Wanted, download
from graftery.client.transport import Transport
from graftery.errors import GrafteryError, ServiceError, StoreError
from registry.drivers import key_of
from registry.settings import Settings
from tests.support import files
from tests.support.http import code_of, push
from tests.support.scripted import Answer, Asked, scripted
from tests.support.uvicorn import serving
from tests.support.verifiers import SharedVerifier

FILE = files.file_bytes(files.parts()[0])
DIGEST = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
def app(app_settings: Settings, bucket_url: str, verifier: SharedVerifier) -> FastAPI:
    settings = app_settings.model_copy(update={"store_url": bucket_url, "redirect_downloads_s": 60.0})
    made = create_app(settings)
    made.state.service = replace(made.state.service, verifier=verifier)
    return made


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, follow_redirects=False) as made:
        push(made, "cat", FILE)
        yield made


def test_a_get_leads_to_the_store(client: TestClient) -> None:
    response = client.get("/v1/versions/cat/file")
    assert (response.status_code, response.content) == (307, b"")
    assert response.headers["ETag"] == f'"{DIGEST}"'
    assert response.headers["Cache-Control"] == "no-store"  # the address is good for a while only
    assert httpx.get(response.headers["Location"]).content == FILE
    part = httpx.get(response.headers["Location"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, FILE[10:20])


def test_what_needs_no_bytes_is_answered_here(client: TestClient) -> None:
    head = client.head("/v1/versions/cat/file")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(FILE)))
    part = client.head("/v1/versions/cat/file", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["Content-Length"]) == (200, str(len(FILE)))
    assert client.get("/v1/versions/cat/file", headers={"If-None-Match": f'"{DIGEST}"'}).status_code == 304
    outside = client.get("/v1/versions/cat/file", headers={"Range": f"bytes={len(FILE)}-"})
    assert code_of(outside) == "range_invalid"


def test_missing_bytes_are_reported_here(client: TestClient, app: FastAPI) -> None:
    app.state.store.delete(DIGEST)
    assert code_of(client.get("/v1/versions/cat/file")) == "store_corrupt"


def test_the_client_goes_along(app: FastAPI, client: TestClient, bucket_url: str, tmp_path: Path) -> None:
    with serving(app) as server, Client(server.url, api_key="secret") as own:
        assert own.pull("cat", tmp_path / "a").read_bytes() == FILE
        _put(bucket_url, FILE[:-1] + b"x")  # somebody was at the bucket
        with pytest.raises(StoreError) as error:
            own.pull("cat", tmp_path / "b")
    assert error.value.code == "digest_mismatch"
    assert not (tmp_path / "b").exists()


def _put(bucket_url: str, data: bytes) -> None:
    import boto3

    bucket, prefix = bucket_url.removeprefix("s3://").split("/", 1)
    key = f"{prefix}/{key_of(DIGEST)}"
    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).put_object(Bucket=bucket, Key=key, Body=data)


def lead(store_url: str, digest: str = DIGEST) -> Answer:
    return Answer(307, b"", {"Location": f"{store_url}/object", "ETag": f'"{digest}"'})


def test_the_key_stays_here_and_the_range_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE_S", 0)

    def break_once(asked: Asked) -> Answer:
        begin = int(asked.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"Content-Range": f"bytes {begin}-{len(FILE) - 1}/{len(FILE)}"} if begin else {}
        rest = FILE[begin:]
        return Answer(206 if begin else 200, rest[:1000] if asked.nth == 1 else rest, headers, declared=len(rest))

    with scripted({"GET /object": break_once}) as store:
        store_url = store.url.replace("127.0.0.1", "localhost")
        with (
            scripted({"GET /file": lambda _: lead(store_url)}) as service,
            Transport(service.url, "secret") as transport,
        ):
            download(transport, Wanted("/file", DIGEST, len(FILE)), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == FILE
    assert [asked.headers.get("Range") for asked in store.asked] == [None, "bytes=1000-"]
    assert [asked.headers["Authorization"] for asked in service.asked] == ["Bearer secret"] * 2
    assert all("Authorization" not in asked.headers for asked in store.asked)


def test_a_store_that_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE_S", 0)
    error = _refused(lambda _: lead("http://localhost:9"), tmp_path / "a")
    assert isinstance(error, ServiceError) and "localhost:9" in str(error)


def test_a_service_that_leads_to_other_bytes(tmp_path: Path) -> None:
    with scripted({"GET /object": lambda _: Answer(200, FILE)}) as store:
        error = _refused(lambda _: lead(store.url, "0" * 64), tmp_path / "a")
    assert error.code == "digest_mismatch"


def _refused(answer: Callable[[Asked], Answer], target: Path) -> GrafteryError:
    with scripted({"GET /file": answer}) as service, Transport(service.url) as transport:
        with pytest.raises(GrafteryError) as error:
            download(transport, Wanted("/file", DIGEST, len(FILE)), target)
        return error.value

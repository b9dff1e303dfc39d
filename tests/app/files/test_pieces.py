"""Bodies that break off: what has come before is kept. And uploads that come over several hosts."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from safetensors.numpy import load_file

from app.main import create_app
from graftery.client import sending
from graftery.client.http import Client
from registry.settings import Settings
from tests.support.processes import eventually
from tests.support.proxy import proxying
from tests.support.uvicorn import Server, serving
from tests.support.verifiers import SharedVerifier

PART = 10_000
DATA = bytes(range(256)) * 400


@pytest.fixture
def app_settings(app_settings: Settings) -> Settings:
    return app_settings.model_copy(update={"upload_part_bytes": PART})


@pytest.fixture
def server(app: FastAPI) -> Iterator[Server]:
    with serving(app) as made:
        yield made


@pytest.fixture
def path(server: Server) -> str:
    request = {"name": "cat", "size_bytes": len(DATA), "digest": hashlib.sha256(DATA).hexdigest()}
    return str(httpx.post(f"{server.url}/v1/uploads", json=request).json()["id"])


def _head(method: str, path: str, length: int) -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: x",
        "Upload-Offset: 0",
        "Content-Type: application/offset+octet-stream",
        f"Content-Length: {length}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_an_append_that_breaks_off_keeps_every_byte(server: Server, path: str) -> None:
    sent = DATA[:34_567]
    with socket.create_connection(server.address) as connection:
        connection.sendall(_head("PATCH", f"/v1/uploads/{path}", len(DATA)) + sent)
        assert eventually(lambda: server.get(f"/v1/uploads/{path}")["offset"] >= PART)  # while it still sends
        time.sleep(0.1)
    assert eventually(lambda: server.get(f"/v1/uploads/{path}")["offset"] == len(sent))


def test_a_part_that_breaks_off_is_not_kept(server: Server, path: str) -> None:
    with socket.create_connection(server.address) as connection:
        connection.sendall(_head("PUT", f"/v1/uploads/{path}/parts/0", PART) + DATA[:5000])
        time.sleep(0.1)
    time.sleep(0.1)
    assert server.get(f"/v1/uploads/{path}")["missing"][0] == 0


def test_a_body_that_is_too_long_is_not_read_to_its_end(server: Server, path: str) -> None:
    with socket.create_connection(server.address) as connection:
        connection.sendall(_head("PUT", f"/v1/uploads/{path}/parts/0", 2**32 - 1) + b"x" * 3 * PART)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    assert b" 422 " in answer
    assert b"connection: close" in answer.lower()


def test_the_cap_of_json_bodies_is_not_that_of_appends(server: Server) -> None:
    data = bytes(3 * 1024**2)
    request = {"name": "cat", "size_bytes": len(data), "digest": hashlib.sha256(data).hexdigest()}
    upload = httpx.post(f"{server.url}/v1/uploads", json=request).json()["id"]
    headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    answer = httpx.patch(f"{server.url}/v1/uploads/{upload}", content=data, headers=headers)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(len(data)))


def test_an_upload_over_two_hosts_on_s3(
    app_settings: Settings, verifier: SharedVerifier, bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection ends after a while; they lead to the hosts in turn."""
    monkeypatch.setattr(sending, "IN_PARTS_BYTES", 50_000)
    monkeypatch.setattr(sending, "PAUSE_S", 0.02)
    database = {"database_url": app_settings.database, "store_url": bucket_url}
    homes = [app_settings.model_copy(update={"home": tmp_path / host, **database}) for host in "ab"]
    apps = [create_app(settings) for settings in homes]
    for each in apps:
        each.state.service = replace(each.state.service, verifier=verifier)
    x = np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32)
    with serving(apps[0]) as a, serving(apps[1]) as b, proxying(a.url) as proxy:
        proxy.cut_after = 35_000
        proxy.lead_to(a.url, b.url)
        with Client(proxy.url) as client:
            client.push_samples("spread", x)
        taken = [_parts_taken(server) for server in (a, b)]
        assert min(taken) >= 2 and sum(taken) >= 26, taken
        for server in (a, b):
            with Client(server.url) as client:
                assert np.array_equal(load_file(client.pull("spread", tmp_path))["x"], x)
    assert [list(each.state.store.uploads()) for each in apps] == [[], []]


def _parts_taken(server: Server) -> int:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    answered = [line for line in lines if line.startswith("graftery_http_requests_total") and "/parts/" in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in answered if '"204"' in line)

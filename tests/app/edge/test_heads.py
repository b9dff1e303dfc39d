"""What a stranger may put into the head of a request, on the real server."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.edge.access import _known, needed
from app.edge.heads import HEAD_BYTES
from tests.support.uvicorn import Server, serving

FIRST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = FIRST + b"Transfer-Encoding: chunked\r\n\r\n"
PLENTY = 16 * HEAD_BYTES


async def _count(scope: Scope, receive: Receive, send: Send) -> None:
    """Says how many bytes the body had."""
    if scope["type"] != "http":
        return
    taken, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        taken, more = taken + len(message.get("body", b"")), message.get("more_body", False)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(str(taken)))]}
    )
    await send({"type": "http.response.body", "body": str(taken).encode()})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(_count) as made:
        yield made


def _told(server: Server, sent: bytes, piece: int = 8192) -> tuple[bytes, int]:
    """What the server says, and how much it took of what has no end: the last bytes are sent again and again."""
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(sent)
        taken, said = 0, b""
        connection.settimeout(0.05)
        while taken < PLENTY:
            try:
                connection.sendall(b"a" * piece)
                taken += piece
                if not (part := connection.recv(65536)):
                    return said, taken
                said += part
            except TimeoutError:
                continue
            except OSError:
                return said, taken
        return said, taken


@pytest.mark.parametrize(
    "sent",
    [FIRST + b"a: ", FIRST, b"GET /", CHUNKED + b"5;", CHUNKED + b"3\r\nabc\r\n0\r\nx: "],
    ids=["value", "name", "address", "chunk extension", "trailer"],
)
def test_a_head_without_an_end_is_cut_off(server: Server, sent: bytes) -> None:
    said, taken = _told(server, sent)
    assert taken < PLENTY / 2
    assert said == b"" or said.startswith(b"HTTP/1.1 431 ") or said.startswith(b"HTTP/1.1 400 ")


def test_many_short_headers_are_as_much_as_a_long_one(server: Server) -> None:
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(FIRST + b"name: value\r\n" * (HEAD_BYTES // 8))
        assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")


def test_many_trailers_are_as_much_as_a_long_one(server: Server) -> None:
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(CHUNKED + b"3\r\nabc\r\n0\r\n")
        try:
            connection.sendall(b"name: value\r\n" * (HEAD_BYTES // 2))
            assert connection.recv(65536) == b""
        except ConnectionError:
            pass  # it has hung up already


def test_long_bodies_and_several_requests_of_one_connection_are_served(server: Server) -> None:
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    for size in (3 * HEAD_BYTES, 0, HEAD_BYTES):
        connection.request("POST", "/", b"a" * size, {"x": "y" * (HEAD_BYTES // 4)})
        assert int(connection.getresponse().read()) == size
    pieces = (b"b" * 1000 for _ in range(200))
    connection.request("POST", "/", pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert int(connection.getresponse().read()) == 200_000
    connection.close()


def test_a_connection_goes_on_behind_a_head(app: FastAPI) -> None:
    with serving(app) as made:
        connection = http.client.HTTPConnection(*made.address, timeout=20)
        for method in ("HEAD", "GET", "HEAD", "HEAD", "GET"):
            connection.request(method, "/v1/modules")
            first = connection.sock
            body = connection.getresponse().read()
            assert (body == b"") == (method == "HEAD")
            assert connection.sock is first is not None
        connection.close()


def test_what_strangers_ask_for_is_not_kept() -> None:
    before = _known.cache_info().currsize
    assert needed("GET", "/v1/" + "a" * 10_000) == needed("GET", "/v1/a")
    assert _known.cache_info().currsize <= before + 1

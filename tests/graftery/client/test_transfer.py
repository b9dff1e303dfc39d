from __future__ import annotations

import base64
import fcntl
import hashlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from graftery.client import transfer
from graftery.client.transfer import Address, Wanted, download, sha256_of, upload
from graftery.client.transport import Transport
from graftery.errors import Conflict, HeaderRefused, ServiceError, StoreError
from tests.support.scripted import Answer, Asked, as_json, problem, scripted

BYTES = bytes(range(256)) * 4096 * 3  # 3 MiB
DIGEST = hashlib.sha256(BYTES).hexdigest()
ETAG = {"ETag": f'"sha256:{DIGEST}"'}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE_S", 0)


def wanted(progress: Callable[[int, int], None] | None = None) -> Wanted:
    return Wanted("/file", DIGEST, len(BYTES), progress)


def breaking(at: int) -> Callable[[Asked], Answer]:
    """Serves ranges, and closes the connection after `at` bytes of each answer."""

    def serve(asked: Asked) -> Answer:
        begin = int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        rest = BYTES[begin:]
        headers = ETAG | ({"Content-Range": f"bytes {begin}-{len(BYTES) - 1}/{len(BYTES)}"} if begin else {})
        return Answer(206 if begin else 200, rest[:at], headers, declared=len(rest))

    return serve


def pull(script: Callable[[Asked], Answer | None], target: Path, **more: Callable[[int, int], None]) -> list[Asked]:
    with scripted({"GET /file": script}) as server, Transport(server.url) as transport:
        download(transport, wanted(**more), target)
    return server.asked


def test_download(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    pull(lambda _: Answer(200, BYTES, ETAG), tmp_path / "new/a", progress=lambda *at: seen.append(at))
    assert (tmp_path / "new/a").read_bytes() == BYTES
    assert seen == sorted(seen)
    assert seen[-1] == (len(BYTES), len(BYTES))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


def test_a_broken_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    asked = pull(breaking(1_000_000), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BYTES
    assert [request.headers.get("Range") for request in asked] == [
        None,
        "bytes=1000000-",
        "bytes=2000000-",
        "bytes=3000000-",
    ]


def test_an_interrupted_download_goes_on_in_the_next_call(tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done >= 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(breaking(1_500_000), tmp_path / "a", progress=interrupt)
    assert not (tmp_path / "a").exists()
    asked = pull(breaking(10**9), tmp_path / "a")
    assert int(asked[0].headers["Range"].removeprefix("bytes=").rstrip("-")) >= 1_000_000
    assert (tmp_path / "a").read_bytes() == BYTES


def test_a_service_without_ranges_is_read_from_the_start(tmp_path: Path) -> None:
    def whole(asked: Asked) -> Answer:
        return Answer(200, BYTES[: len(BYTES) if asked.nth > 1 else 500_000], ETAG, declared=len(BYTES))

    pull(whole, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BYTES


def test_another_etag_after_a_break_is_refused(tmp_path: Path) -> None:
    def moved(asked: Asked) -> Answer:
        return breaking(1000)(asked) if asked.nth == 1 else Answer(206, b"other", {"ETag": '"sha256:00"'})

    with pytest.raises(StoreError) as caught:
        pull(moved, tmp_path / "a")
    assert caught.value.code == "digest_mismatch"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("body", "text"), [(b"x" * len(BYTES), "have sha256"), (BYTES + b"x", "more than the stated")])
def test_wrong_bytes_are_not_kept(tmp_path: Path, body: bytes, text: str) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(StoreError, match=text) as caught:
        pull(lambda _: Answer(200, body, ETAG), tmp_path / "a")
    assert caught.value.code == "digest_mismatch"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_download_that_gets_nowhere_gives_up(tmp_path: Path) -> None:
    with scripted({"GET /file": lambda _: None}) as server, Transport(server.url) as transport:
        with pytest.raises(ServiceError, match="broke"):
            download(transport, wanted(), tmp_path / "a")
        assert len(server.asked) == transfer.MAX_TRIES


def test_a_second_process_does_not_write_the_same_file(tmp_path: Path) -> None:
    with (tmp_path / f".a.{DIGEST[:16]}.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another process"):
            pull(lambda _: Answer(200, BYTES, ETAG), tmp_path / "a")


def push(path: Path, script: Callable[[Asked], Answer | None], **more: Callable[[int, int], None]) -> list[Asked]:
    with scripted({"PUT /here": script}) as server, Transport(server.url) as transport:
        upload(transport, Address("/here", {"tag": ["a", "b"], "description": "d e"}, **more), path, sha256_of(path))
    return server.asked


def test_upload(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BYTES)
    seen: list[tuple[int, int]] = []
    (asked,) = push(tmp_path / "a", lambda _: as_json({}, 201), progress=lambda *at: seen.append(at))
    assert asked.body == BYTES
    assert asked.headers["Content-Length"] == str(len(BYTES))
    assert "Transfer-Encoding" not in asked.headers
    encoded = base64.b64encode(bytes.fromhex(DIGEST)).decode()
    assert asked.headers["Repr-Digest"] == f"sha-256=:{encoded}:"
    assert asked.query == {"tag": ["a", "b"], "description": ["d e"]}
    assert seen[-1] == (len(BYTES), len(BYTES))


def test_a_broken_upload_is_sent_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BYTES)
    asked = push(tmp_path / "a", lambda asked: None if asked.nth == 1 else as_json({}, 201))
    assert [len(request.body) for request in asked] == [len(BYTES)] * 2


def test_a_refused_upload_is_not_sent_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(HeaderRefused, match="pickle"):
        push(tmp_path / "a", lambda asked: problem("header_invalid", 422, "pickle") if asked.nth == 1 else as_json({}))


def test_a_refusal_in_the_middle_of_an_upload_is_heard(tmp_path: Path) -> None:
    """A service that refuses by the first bytes answers and hangs up while the client still sends."""
    (tmp_path / "a").write_bytes(bytes(64 * 1024**2))
    body = b'{"code":"file_too_large","detail":"too large","status":413}'

    def refuse(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 413 X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1024**2):
            pass
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=[listener])
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Transport(url) as transport, pytest.raises(HeaderRefused, match="too large"):
            upload(transport, Address("/here", {}), tmp_path / "a", DIGEST)
        thread.join()

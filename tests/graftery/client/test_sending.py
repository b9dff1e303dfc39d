"""Files that reach a real service over bad connections: cut again and again, or with the service killed in between."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from graftery.client import sending, transfer
from graftery.client.http import Client
from graftery.errors import GrafteryError, ServiceError, StoreError
from tests.support.processes import family, meanwhile
from tests.support.proxy import Proxy, proxying
from tests.support.scripted import as_json, problem, scripted
from tests.support.service import Service, serving

PART = 100_000
SMALL_PARTS = {"upload_part_bytes": str(PART), "planes": "registry", "prechecks": "0", "free_bytes": "0"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "IN_PARTS_BYTES", 1_000_000)
    monkeypatch.setattr(sending, "PAUSE_S", 0.05)
    monkeypatch.setattr(transfer, "PAUSE_S", 0.05)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("sending"), **SMALL_PARTS) as started:
        yield started


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    with proxying(service.url) as made:
        yield made


def samples(seed: int) -> np.ndarray:
    """2.56 MB: 26 parts."""
    return np.random.default_rng(seed).standard_normal((10_000, 64)).astype(np.float32)


def arrived(client: Client, name: str, x: np.ndarray, folder: Path) -> bool:
    from safetensors.numpy import load_file

    return bool(np.array_equal(load_file(client.pull(name, folder))["x"], x))


def test_connections_that_are_cut_again_and_again(proxy: Proxy, service: Service, tmp_path: Path) -> None:
    # Of a connection: few enough that, with four of them at once, there are six cuts in any order of their parts.
    proxy.cut_after = 200_000
    seen: list[tuple[int, int]] = []
    with Client(proxy.url) as client:
        client.push_samples("cut", samples(1), progress=lambda *at: seen.append(at))
    assert proxy.cuts >= 6
    # What had arrived was not sent again: each cut costs the parts that were on their way, and no more.
    assert proxy.sent < 2_600_000 + proxy.cuts * 2 * sending.AT_ONCE * PART
    assert seen[-1][0] == seen[-1][1] >= 2_560_000
    with service.client() as client:
        assert arrived(client, "cut", samples(1), tmp_path)


def test_a_second_push_sends_only_what_is_missing(proxy: Proxy, service: Service, tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done >= 1_000_000:
            raise KeyboardInterrupt

    with Client(proxy.url) as client, pytest.raises(KeyboardInterrupt):
        client.push_samples("again", samples(2), progress=interrupt)
    before = proxy.sent
    assert before < 2_000_000
    with Client(proxy.url) as client:
        client.push_samples("again", samples(2))
    assert proxy.sent - before < 2_560_000 - 900_000
    with service.client() as client:
        assert arrived(client, "again", samples(2), tmp_path)


def test_what_another_name_has_is_not_sent(proxy: Proxy, service: Service) -> None:
    with service.client() as client:
        client.push_samples("first", samples(3))
    with Client(proxy.url) as client:
        assert client.push_samples("second", samples(3)).ref == "second:1"
    assert proxy.sent < 10_000


@contextmanager
def doomed(home: Path, **settings: str) -> Iterator[Service]:
    """A service that the test kills."""
    through = False
    try:
        with serving(home, **settings) as started:
            yield started
            through = True
    except AssertionError:  # it has not ended cleanly
        assert through
    (home / "serve.json").unlink()


@pytest.mark.slow
def test_everything_is_killed_and_started_again(tmp_path: Path) -> None:
    """The client waits while nothing answers, and goes on with what the dead service had noted."""
    x, pushed, killed = samples(5), threading.Event(), threading.Event()

    def push() -> None:
        with Client(proxy.url) as client:
            client.push_samples("restarted", x)
        pushed.set()

    def kill(sent: int) -> None:
        if sent >= 1_200_000 and not killed.is_set():
            for each in family(first.process.pid):
                each.kill()
            killed.set()

    with doomed(tmp_path / "home", **SMALL_PARTS) as first, ExitStack() as kept:
        proxy = kept.enter_context(proxying(first.url))
        proxy.on_bytes = kill
        meanwhile(push)
        assert killed.wait(60)
        first.process.wait(20)
        kept = kept.pop_all()
    with kept, serving(tmp_path / "home", **SMALL_PARTS) as second:
        before = proxy.sent
        proxy.lead_to(second.url)
        assert pushed.wait(60)
        assert proxy.sent - before < 2_560_000 - 600_000
        with second.client() as client:
            assert arrived(client, "restarted", x, tmp_path)


def test_a_small_file_waits_for_a_service_that_went_away(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"small")
    script = {"PUT /v1/modules/cat": lambda asked: None if asked.nth <= 7 else as_json({}, 201)}
    with scripted(script) as server, Client(server.url) as client:
        digest, address = hashlib.sha256(b"small").hexdigest(), transfer.Address("/v1/modules/cat", {})
        assert sending.send(client._transport, address, tmp_path / "a", digest, "module").status_code == 201


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PATIENCE_S", 0.3)
    (tmp_path / "a").write_bytes(random.Random(0).randbytes(1_000_001))
    script = {"POST /v1/uploads": lambda _: problem("unavailable", 503)}
    with scripted(script) as server, Client(server.url) as client, pytest.raises(GrafteryError) as caught:
        sending.send(client._transport, transfer.Address("/v1/modules/cat", {}), tmp_path / "a", "ab" * 32, "module")
    assert caught.value.code == "unavailable"


def test_where_nothing_answers_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceError, match="no service"):
        sending.send(client._transport, transfer.Address("/v1/modules/cat", {}), tmp_path / "a", "ab" * 32, "module")


def test_a_refusal_is_not_borne(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1_000_001))
    script = {"POST /v1/uploads": lambda _: problem("quota_exceeded", 413, used_bytes=1, allowed_bytes=2)}
    with scripted(script) as server, Client(server.url) as client, pytest.raises(StoreError) as caught:
        sending.send(client._transport, transfer.Address("/v1/modules/cat", {}), tmp_path / "a", "ab" * 32, "module")
    assert (caught.value.code, caught.value.details["allowed_bytes"]) == ("quota_exceeded", 2)
    assert len(server.asked) == 2

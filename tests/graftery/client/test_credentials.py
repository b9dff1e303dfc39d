from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from graftery.client import credentials
from graftery.client.http import Client
from graftery.errors import GrafteryError
from tests.support.scripted import Asked, as_json, scripted

HEALTH = {"status": "ok", "version": "1", "checks": {}}


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "graftery"


def sent(url_of_key: str | None = None, api_key: str | None = None) -> str | None:
    """The Authorization header of a request; the key that is kept is for `url_of_key`, by default the service's own."""
    seen: list[Asked] = []

    def health(asked: Asked):  # type: ignore[no-untyped-def]
        seen.append(asked)
        return as_json(HEALTH)

    with scripted({"GET /health": health}) as server:
        credentials.save(url_of_key or server.url, "kept")
        with Client(server.url, api_key) as client:
            client.health()
    return seen[0].headers.get("Authorization")


def test_a_kept_key_is_sent_to_its_service() -> None:
    assert sent() == "Bearer kept"


@pytest.mark.parametrize("other", ["https://graftery.example", "http://127.0.0.1:1", "http://127.0.0.1"])
def test_a_kept_key_goes_nowhere_else(other: str) -> None:
    assert sent(other) is None


def test_the_environment_and_the_argument_go_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTERY_API_KEY", "of-the-environment")
    assert sent() == "Bearer of-the-environment"
    assert sent(api_key="given") == "Bearer given"


def test_only_the_user_reads_the_file(config: Path) -> None:
    before = os.umask(0)
    try:
        target = credentials.save("http://one", "key")
    finally:
        os.umask(before)
    assert target == config / "keys.json"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in config.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_read_is_not_used(mode: int) -> None:
    credentials.save("http://one", "key").chmod(mode)
    with pytest.raises(GrafteryError, match="can be read by others"):
        credentials.key_for("http://one")


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_file_that_is_none_is_said_to_be(content: str) -> None:
    credentials.save("http://one", "key").write_text(content)
    with pytest.raises(GrafteryError):
        credentials.key_for("http://one")


def test_keys_of_several_services_are_kept_and_forgotten_apart() -> None:
    credentials.save("http://one", "1")
    credentials.save("http://two", "2")
    assert (credentials.key_for("http://one"), credentials.key_for("http://two")) == ("1", "2")
    credentials.save("http://one", None)
    assert (credentials.key_for("http://one"), credentials.key_for("http://two")) == (None, "2")

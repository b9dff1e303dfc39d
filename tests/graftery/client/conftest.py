from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

DIGEST = "ab" * 32
AT = "2026-01-02T03:04:05Z"


@pytest.fixture
def version() -> Callable[..., dict[str, Any]]:
    """A VersionOut as it crosses HTTP."""

    def make(name: str = "cat", number: int = 1, **more: Any) -> dict[str, Any]:
        base = {"name": name, "kind": "category", "version": number, "ref": f"{name}:{number}", "digest": DIGEST}
        return base | {"size_bytes": 2048, "created_at": AT} | more

    return make


@pytest.fixture
def job() -> Callable[..., dict[str, Any]]:
    """A JobOut as it crosses HTTP."""

    def make(state: str = "queued", **more: Any) -> dict[str, Any]:
        base = {"id": "j1", "kind": "transplant", "state": state, "created_at": AT, "request": {}}
        return base | more

    return make


@pytest.fixture(autouse=True)
def no_service_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAFTERY_URL", raising=False)
    monkeypatch.delenv("GRAFTERY_API_KEY", raising=False)

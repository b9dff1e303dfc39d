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


@pytest.fixture
def matrix() -> Callable[..., dict[str, Any]]:
    """A GenericOut as it crosses HTTP: a category and a task for each that the cells name; each cell as its CellOut is written."""

    def make(*cells: dict[str, Any], name: str = "zoo") -> dict[str, Any]:
        cells = cells or ({"category": "cat", "task": "is", "state": "ready", "network": "n:1"},)

        def members(role: str) -> list[dict[str, Any]]:
            names = dict.fromkeys(cell[role] for cell in cells)
            return [{"name": each, "ref": f"{each}:1", "digest": DIGEST} for each in names]

        base = {"name": name, "categories": members("category"), "tasks": members("task"), "cells": [*cells]}
        return base | {"created_at": AT, "updated_at": AT}

    return make


@pytest.fixture(autouse=True)
def no_service_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAFTERY_URL", raising=False)
    monkeypatch.delenv("GRAFTERY_API_KEY", raising=False)

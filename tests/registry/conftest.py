"""Stores for the registry's tests: a folder, and a bucket of a server in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.settings import Settings
from registry.store import Store


@pytest.fixture
def folder_store(tmp_path: Path) -> Store:
    """A store in a folder."""
    return Store(Settings(home=tmp_path / "home", free_bytes=0))


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store, once in a folder and once in a bucket: what holds for one holds for the other."""
    url = request.getfixturevalue("bucket_url") if request.param == "bucket" else None
    return Store(Settings(home=tmp_path / "home", store_url=url, free_bytes=0))

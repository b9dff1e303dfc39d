from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from registry import sweeping
from registry.store import Store
from registry.sweeping import sweep_hourly
from tests.support.processes import eventually


@pytest.fixture
def stopping() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def leave(store: Store, name: str, age_s: float) -> None:
    """A staged file that nobody uses any more."""
    path = store.staging / name
    path.write_bytes(b"left")
    os.utime(path, (time.time() - age_s,) * 2)


def names(store: Store) -> set[str]:
    return {path.name for path in store.staging.iterdir()}


def test_a_host_sweeps_what_it_has_again_and_again(
    folder_store: Store, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "EVERY_S", 0.05)
    leave(folder_store, "old", 7200)
    leave(folder_store, "young", 1800)
    sweep_hourly(folder_store, 3600, stopping)
    assert eventually(lambda: names(folder_store) == {"young"})
    leave(folder_store, "later", 7200)
    assert eventually(lambda: names(folder_store) == {"young"})


def test_a_copy_that_was_asked_for_a_moment_ago_stays_without_any_grace(
    folder_store: Store, stopping: threading.Event
) -> None:
    leave(folder_store, "asked", 5)
    leave(folder_store, "old", 120)
    sweep_hourly(folder_store, 0, stopping)
    assert eventually(lambda: names(folder_store) == {"asked"})


def test_a_sweep_that_fails_is_not_the_last(
    folder_store: Store, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "EVERY_S", 0.05)
    failures, sweep = [OSError("Input/output error")], Store.sweep

    def failing(store: Store, older_than_s: float) -> int:
        if failures:
            raise failures.pop()
        return sweep(store, older_than_s)

    monkeypatch.setattr(Store, "sweep", failing)
    leave(folder_store, "old", 7200)
    sweep_hourly(folder_store, 3600, stopping)
    assert eventually(lambda: names(folder_store) == set()) and not failures

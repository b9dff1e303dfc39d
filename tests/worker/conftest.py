from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from registry.settings import Settings
from tests.support.workplace import Workplace
from worker.bench import Bench

BUSY_CHILD = (sys.executable, "-m", "tests.support.busy_child")


@pytest.fixture
def place(settings: Settings) -> Iterator[Workplace]:
    """A registry with a category and a task module, and settings for people in a hurry.

    The lease outlasts any pause of a busy machine: what a lost one does is for tests that shorten it.
    """
    hurried = {"heartbeat_s": 0.1, "lease_s": 60.0, "poll_s": 0.1, "checkpoint_s": 0.1, "log_level": "debug"}
    made = Workplace.of(settings.model_copy(update=hurried))
    yield made
    made.database.dispose()


@pytest.fixture
def bench(place: Workplace) -> Iterator[Bench]:
    """A worker's bench in this process; its child is a process that only counts."""
    made = Bench(place.settings, place.database, place.store, "tester", BUSY_CHILD)
    yield made
    made.dismiss()

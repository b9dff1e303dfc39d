"""A part of the service: how soon it is started again after it died."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from app import supervisor
from app.supervisor import Part


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The supervisor's monotonic clock; its one element is the time, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now[0])
    return now


def _dies_after(part: Part, clock: list[float], life_s: float) -> float:
    """Kill the part at this age, and give the delay until it runs again."""
    part.tend()
    clock[0] += life_s
    part.kill()
    died_at = clock[0]
    part.tend()
    while part.pid is None:
        clock[0] += 0.25
        part.tend()
    return clock[0] - died_at


@pytest.fixture
def part() -> Iterator[Part]:
    made = Part("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], {})
    yield made
    made.kill()


def test_what_dies_while_it_starts_waits_longer_each_time_up_to_a_bound(part: Part, clock: list[float]) -> None:
    delays = [_dies_after(part, clock, 0.1) for _ in range(7)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(delays) == 10.0


def test_what_had_come_up_is_started_again_at_once(part: Part, clock: list[float]) -> None:
    assert [_dies_after(part, clock, life_s) for life_s in (0.1, 0.1, 6.0, 6.0)] == [0.5, 1.0, 0.5, 0.5]


def test_a_part_that_is_killed_is_gone(part: Part) -> None:
    part.tend()
    assert not part.ended()
    part.kill()
    assert part.ended()

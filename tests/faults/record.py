"""What a driver has been told by the service: that is what has to be true at the end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.faults.site import Site


@dataclass
class Record:
    """Filled by many threads.

    Args:
        jobs: seed of a transplant to the id that a 202 named.
        asked: seeds of all transplants that were asked for; of those that are not in `jobs`, the reply was lost.
        uploads: name to the digest that a 201 or a 200 named; `dropped`: names whose version was deleted since.
        unsure: names with an upload whose reply was lost: it may come to its end at any time, also after a later one.
        answers: what came of requests, for the count at the end.
        ended: how many of the transplants have ended, the last of them at `ended_at`.
        wrong: answers that must not be, whatever dies.
        zombies: job and attempt that a stopped worker had.
    """

    jobs: dict[int, str] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)
    uploads: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    ended_at: float = field(default_factory=time.monotonic)
    wrong: list[str] = field(default_factory=list)
    zombies: list[tuple[str, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    faults_over: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def count(self, what: str) -> None:
        with self.lock:
            self.answers[what] += 1

    def complain(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)

    @property
    def done(self) -> str:
        return f"{self.ended} jobs, {len(self.uploads)} uploads, {len(self.wrong)} wrong"


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    jobs: int
    """At least; more are asked for while there are faults to come."""
    uploads: int
    contents: int
    """That are deleted and uploaded again while `collect` runs."""
    at_once: int
    """Transplants that are queued or running at a time."""
    lease_s: float
    grace_s: float
    kills: dict[str, int]
    faults: int
    """Other than kills."""
    pause_s: tuple[float, float]
    """Between two faults, at least."""
    calm_s: float
    """In which a job ends at least; and all of it, when the faults are over."""
    patience_s: float
    """How long a fault waits for the jobs that are to have ended before it."""


@dataclass
class Trial:
    """One run: the site, what is done to it, what it said."""

    site: Site = field(repr=False)
    size: Size
    seed: int
    real: bool
    """Whether jobs are transplants; else they only count."""
    record: Record = field(default_factory=Record, repr=False)
    bodies: list[tuple[bytes, dict[str, str]]] = field(default_factory=list, repr=False)
    """Infer requests, and of each the only right answer."""
    right: list[NDArray[np.float32]] = field(default_factory=list, repr=False)

"""Requests of a driver whose service dies and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.faults.record import Trial

# What may be answered while parts of the service are away; anything else from 400 on is the driver's to judge.
PASSES = {503, 507}
_PAUSE_S = 0.15
_PATIENCE_S = 180.0


class Asker:
    """Asks one plane of a trial's site, from one thread."""

    def __init__(self, trial: Trial, url: str) -> None:
        self.record = trial.record
        self.resent = False
        """Whether the last request of `until` was sent more than once: an earlier one may still be at work."""
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def once(self, what: str, method: str, path: str, **content: Any) -> httpx.Response | None:
        """Ask; None where there was no answer, or one that says "later"."""
        try:
            answer = self._http.request(method, path, **content)
        except httpx.TransportError as error:
            self.record.count(f"{what}: no answer ({type(error).__name__})")
            return None
        self.record.count(f"{what}: {answer.status_code}")
        if answer.status_code in PASSES:
            return None
        if answer.status_code >= 500:
            self.record.complain(f"{what}: {method} {path} was answered {answer.status_code} {answer.text[:300]}")
            return None
        return answer

    def until(self, what: str, method: str, path: str, **content: Any) -> httpx.Response:
        """Ask again and again, until there is an answer.

        Raises:
            TimeoutError: there is none for very long.
        """
        self.resent = False
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            answer = self.once(what, method, path, **content)
            if answer is not None:
                return answer
            self.resent = True
            time.sleep(_PAUSE_S)
        raise TimeoutError(f"{what}: {method} {path} is not answered for {_PATIENCE_S:g} s")


def expect(trial: Trial, what: str, answer: httpx.Response, *statuses: int) -> bool:
    """Whether it is one of these; anything else is wrong, and written down."""
    if answer.status_code in statuses:
        return True
    trial.record.complain(f"{what}: {answer.request.url.path} was answered {answer.status_code} {answer.text[:300]}")
    return False


def guarded(trial: Trial, part: Callable[[Trial], None]) -> None:
    """A part of the driver as a thread runs it: its errors are the trial's."""
    try:
        part(trial)
    except Exception as error:
        trial.record.complain(f"{getattr(part, '__name__', part)}: {error!r}"[:1000])

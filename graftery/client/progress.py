"""What moves while one waits: bars on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from graftery.client.render import size
from graftery.client.transfer import Progress as OnBytes
from graftery.spec.wire import JobEvent, JobOut

if TYPE_CHECKING:
    from graftery.learning.loop import Progress as Training

LINE_EVERY_S = 5.0
"""Without a terminal: at most one line in this time, besides first, last and changed ones."""


@contextmanager
def transfer_bar(what: str) -> Iterator[OnBytes]:
    """A callback for bytes done and bytes in all."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_transfer(what)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


@contextmanager
def job_view() -> Iterator[Callable[[JobEvent], None]]:
    """A callback for a job's events: one bar a phase, with its loss."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainJob()
        return
    with _bars(console) as bars:
        yield _BarsOfJob(bars)


@contextmanager
def jobs_view() -> Iterator[Callable[[list[JobOut]], None]]:
    """A callback for where several jobs stand: one bar a job, with its phase and loss."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainJobs()
        return
    with _bars(console) as bars:
        yield _BarsOfJobs(bars)


@contextmanager
def training_view() -> Iterator[Callable[[Training], None]]:
    """A callback for a training on this machine: a bar with its loss and the terms of it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainTraining()
        return
    with _bars(console) as bars:
        bar = bars.add_task("train", total=None, loss="")
        yield lambda at: bars.update(bar, description=at.phase, completed=at.step, total=at.steps, loss=_terms(at))


def _bars(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TextColumn("{task.fields[loss]}"), TimeRemainingColumn(), console=console)


class _BarsOfJob:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._by_phase: dict[str, Any] = {}
        self._waiting = bars.add_task("queued", total=None, loss="")

    def __call__(self, event: JobEvent) -> None:
        if event.type == "state":
            state = str(event.data.get("state", ""))
            self._bars.update(self._waiting, description=state, visible=state == "queued")
        elif event.type == "progress":
            self._advance(event.data)

    def _advance(self, data: Mapping[str, Any]) -> None:
        phase = str(data.get("phase", "work"))
        if phase not in self._by_phase:
            self._by_phase[phase] = self._bars.add_task(phase, total=None, loss="")
        self._bars.update(
            self._by_phase[phase], completed=data.get("step", 0), total=data.get("steps"), loss=_loss(data)
        )


class _PlainJob:
    def __init__(self) -> None:
        self._phase, self._at = "", 0.0

    def __call__(self, event: JobEvent) -> None:
        if event.type == "state":
            _line(f"job {event.data.get('state', '')}")
        elif event.type == "progress":
            self._progress(event.data)

    def _progress(self, data: Mapping[str, Any]) -> None:
        phase, last = str(data.get("phase", "work")), data.get("step") == data.get("steps")
        now = time.monotonic()
        if phase != self._phase or last or now - self._at >= LINE_EVERY_S:
            self._phase, self._at = phase, now
            _line(f"{phase} {data.get('step', 0)}/{data.get('steps', '?')} {_loss(data)}".rstrip())


class _PlainTraining:
    def __init__(self) -> None:
        self._at = -math.inf

    def __call__(self, at: Training) -> None:
        now = time.monotonic()
        if at.step == at.steps or now - self._at >= LINE_EVERY_S:
            self._at = now
            _line(f"{at.phase} {at.step}/{at.steps} {_terms(at)}")


class _BarsOfJobs:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._by_job: dict[str, Any] = {}

    def __call__(self, jobs: list[JobOut]) -> None:
        for job in jobs:
            if job.id not in self._by_job:
                self._by_job[job.id] = self._bars.add_task(job.id, total=None, loss="")
            at = job.progress or {}
            self._bars.update(
                self._by_job[job.id],
                description=f"{job.request.get('name', job.id)} {_phase(job)}",
                completed=at.get("step", 0),
                total=at.get("steps"),
                loss=_loss(at),
            )


class _PlainJobs:
    """A line where the phase of a job changes, and for each that is at work one in `LINE_EVERY_S`."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, float]] = {}

    def __call__(self, jobs: list[JobOut]) -> None:
        for job in jobs:
            phase, at, now = _phase(job), job.progress or {}, time.monotonic()
            before, when = self._said.get(job.id, ("", 0.0))
            if phase != before or (job.state == "running" and now - when >= LINE_EVERY_S):
                self._said[job.id] = (phase, now)
                steps = f"{at['step']}/{at.get('steps', '?')} {_loss(at)}" if _is_at_work(job) else ""
                _line(f"{job.request.get('name', job.id)}: {phase} {steps}".rstrip())


def _phase(job: JobOut) -> str:
    """What a job that is at work does; else its state."""
    return str((job.progress or {}).get("phase", "work")) if _is_at_work(job) else job.state


def _is_at_work(job: JobOut) -> bool:
    return job.state == "running" and "step" in (job.progress or {})


def _plain_transfer(what: str) -> OnBytes:
    at = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal at
        now = time.monotonic()
        if done == total or now - at >= LINE_EVERY_S:
            at = now
            _line(f"{what}: {size(done)} of {size(total)}")

    return report


def _loss(data: Mapping[str, Any]) -> str:
    """The loss of a phase that has one."""
    loss = data.get("loss")
    return f"loss {loss:.4g}" if isinstance(loss, int | float) and data.get("phase") != "evaluate" else ""


def _terms(at: Training) -> str:
    """The loss, and what each kind of term (NAME/own, NAME/rotation, ...) adds to it over all tasks."""
    sums: dict[str, float] = {}
    for name, term in at.losses.items():
        kind = name.rpartition("/")[2]
        sums[kind] = sums.get(kind, 0.0) + term
    parts = f" ({', '.join(f'{kind} {term:.4g}' for kind, term in sums.items())})" if len(sums) > 1 else ""
    return f"loss {at.loss:.4g}{parts}"


def _line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()

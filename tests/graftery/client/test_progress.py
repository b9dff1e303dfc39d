from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from graftery.client import progress
from graftery.client.progress import job_view, training_view, transfer_bar
from graftery.learning.loop import Progress
from graftery.spec.wire import JobEvent


def event(kind: str, **data: object) -> JobEvent:
    return JobEvent.model_validate({"seq": 1, "type": kind, "at": datetime.now(UTC), "data": data})


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 100 columns would be sent."""
    screen = io.StringIO()
    make = lambda **_: Console(file=screen, force_terminal=True, width=100)  # noqa: E731
    monkeypatch.setattr(progress, "Console", make)
    return screen


def test_without_a_terminal_phases_and_ends_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with job_view() as show:
        show(event("state", state="running"))
        for step in range(1, 101):
            show(event("progress", phase="inversion", step=step, steps=100, loss=1 / step))
        show(event("progress", phase="train", step=1, steps=2))
        show(event("checkpoint", step=1))
        show(event("state", state="succeeded"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "job running",
        "inversion 1/100 loss 1",
        "inversion 100/100 loss 0.01",
        "train 1/2",
        "job succeeded",
    ]


def test_without_a_terminal_a_long_phase_is_heard_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    with job_view() as show, transfer_bar("push cat") as report:
        show(event("progress", phase="train", step=1, steps=3))
        show(event("progress", phase="train", step=2, steps=3))
        report(1000, 3000)
    assert capsys.readouterr().err.splitlines() == ["train 1/3", "train 2/3", "push cat: 1 kB of 3 kB"]


def test_a_small_transfer_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer_bar("pull cat") as report:
        report(10, 20)
        report(20, 20)
    assert capsys.readouterr().err == "pull cat: 20 B of 20 B\n"


def test_on_a_terminal_each_phase_has_its_bar(terminal: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    with job_view() as show:
        show(event("state", state="queued"))
        show(event("state", state="running"))
        show(event("progress", phase="inversion", step=5, steps=10, loss=0.5))
        show(event("progress", phase="train", step=1, steps=2, loss=0.25))
    shown = terminal.getvalue()
    for text in ("inversion", "5/10", "loss 0.5", "train", "1/2", "loss 0.25"):
        assert text in shown
    with transfer_bar("push cat") as report:
        report(1, 2)
    assert "push cat" in terminal.getvalue()
    assert capsys.readouterr().out == ""


TERMS = {"a/own": 1.0, "b/own": 2.0, "a/rotation": 0.5, "b/rotation": 0.25}


def test_a_training_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with training_view() as show:
        for step in range(1, 101):
            show(Progress("train", step, 100, 3.75, TERMS))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"train {step}/100 loss 3.75 (own 3, rotation 0.75)" for step in (1, 100)]


def test_a_training_on_a_terminal_is_a_bar(terminal: io.StringIO) -> None:
    with training_view() as show:
        show(Progress("train", 5, 20, 3.75, TERMS))
    assert "5/20" in terminal.getvalue() and "own 3, rotation 0.75" in terminal.getvalue()

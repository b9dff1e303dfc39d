"""The child by itself: its reports, what a library prints, its end."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from graftery.learning.checkpoint import Checkpoint
from graftery.spec.limits import Limits
from tests.support.processes import eventually
from worker.child import Reporter
from worker.process import Child, ChildDied
from worker.reports import Advanced, Done, Failed, Order, Ready, Report, Saved

BUSY_CHILD = (sys.executable, "-m", "tests.support.busy_child")


def order(tmp_path: Path, **script: object) -> Order:
    return Order(
        job="1",
        kind="transplant",
        request={},
        recipe=script,
        files={},
        scratch=str(tmp_path),
        device="cpu",
        threads=0,
        checkpoint_s=1.0,
        limits=Limits(),
    )


def until_the_end(child: Child) -> list[Report]:
    reports: list[Report] = []
    while not reports or not isinstance(reports[-1], Done | Failed):
        report = child.report(20.0)
        assert report is not None
        reports.append(report)
    return reports


def test_orders_in_reports_out(tmp_path: Path) -> None:
    child = Child(BUSY_CHILD, threads=3)
    try:
        child.send(order(tmp_path, steps=2, checkpoint_every=1, noise='{"type": "done"}'))
        reports = until_the_end(child)
        assert isinstance(reports[0], Ready)
        assert [report.step for report in reports if isinstance(report, Saved)] == [1, 2]
        last = reports[-1]
        assert isinstance(last, Done), "what is printed is no report"
        assert last.result["metrics"]["threads"] == "3"
        child.send(order(tmp_path, **{"raise": "diverged"}))
        assert isinstance(until_the_end(child)[-1], Failed)
        child.send(order(tmp_path))
        assert isinstance(until_the_end(child)[-1], Done)
        assert child.report(0.0) is None
    finally:
        child.kill()
    assert not child.alive


def test_a_child_that_is_dead_says_so(tmp_path: Path) -> None:
    child = Child(BUSY_CHILD)
    child.kill()
    with pytest.raises(ChildDied, match="SIGKILL"):
        child.send(order(tmp_path))
    for _ in range(2):
        with pytest.raises(ChildDied, match="SIGKILL"):
            child.report(1.0)


def test_a_child_that_cannot_start() -> None:
    child = Child((sys.executable, "-c", "raise SystemExit(7)"))
    with pytest.raises(ChildDied, match="status 7"):
        child.report(20.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_child_that_cannot_be_understood() -> None:
    child = Child((sys.executable, "-c", "print('hello'); import time; time.sleep(60)"))
    try:
        with pytest.raises(ChildDied, match="cannot be read"):
            while True:
                child.report(20.0)
    finally:
        child.kill()


def test_progress_is_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("worker.child.time.monotonic", lambda: clock[0])
    pipe = io.BytesIO()
    reporter = Reporter(pipe)
    for step in range(1, 1001):
        clock[0] += 0.01
        reporter.advanced({"phase": "train", "step": step, "steps": 1000})
    reporter.advanced({"phase": "evaluate", "step": 1, "steps": 2})
    reporter.advanced({"phase": "evaluate", "step": 2, "steps": 2})
    told = [Advanced.model_validate_json(line).data for line in pipe.getvalue().splitlines()]
    assert 19 <= len(told) <= 24, "ten seconds at two a second, and what begins or ends a phase"
    assert [data["step"] for data in told][-3:] == [1000, 1, 2]


def kept_steps(pipe: io.BytesIO) -> list[int]:
    return [Saved.model_validate_json(line).step for line in pipe.getvalue().splitlines()]


def test_a_checkpoint_waits_until_the_one_before_is_taken(tmp_path: Path) -> None:
    pipe = io.BytesIO()
    reporter = Reporter(pipe)
    for step in (1, 2):
        reporter.keep(Checkpoint(step, {}, "train"), str(tmp_path))
    (only,) = tmp_path.iterdir()
    assert kept_steps(pipe) == [1]
    only.unlink()  # as the worker does once its bytes are kept
    reporter.keep(Checkpoint(3, {}, "train"), str(tmp_path))
    (only,) = tmp_path.iterdir()
    assert kept_steps(pipe) == [1, 3] and Checkpoint.load(only).step == 3


def test_a_checkpoint_that_cannot_be_written_costs_itself_alone(tmp_path: Path) -> None:
    pipe = io.BytesIO()
    reporter = Reporter(pipe)
    reporter.keep(Checkpoint(1, {}, "train"), str(tmp_path / "gone"))
    reporter.keep(Checkpoint(2, {}, "train"), str(tmp_path))
    assert kept_steps(pipe) == [2]


def test_a_loss_that_is_no_number_is_null() -> None:
    line = Advanced(data={"phase": "train", "loss": float("nan")}).encode()
    assert json.loads(line)["data"]["loss"] is None


def test_it_ends_with_its_stdin(tmp_path: Path) -> None:
    child = Child(BUSY_CHILD)
    assert isinstance(child.report(20.0), Ready)
    child.send(order(tmp_path, steps=1000, step_s=1.0))
    child._orders.close()
    try:
        assert eventually(lambda: not child.alive, within_s=3)
    finally:
        child.kill()

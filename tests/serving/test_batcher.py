"""The queue in front of the nets: no waiting without need, bounded in rows, and each job's fate its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from torch import nn

from graftery.errors import Unavailable
from serving.asking import Question
from serving.batcher import Batcher, Done
from serving.branches import Branch, Model, Output, OutputSpec
from serving.joint import Job, Took
from serving.pace import SIZES
from serving.parts import Eager, Part
from serving.protocol import Declared
from serving.tensors import Array

SPEC = OutputSpec(dtype="float32", shape=("N", 1))


def job(rows: int, category: str = "c", task: str = "t", value: float = 1.0, timeout_s: float | None = None) -> Job:
    branch = Branch(None, task, (Output(Declared("y", "FP32", (-1, 1)), "y", SPEC),))
    model = Model(category, 1, category, Declared("input", "FP32", (-1, 1)), None, (branch,), {})
    return Job(model, Question(np.full((rows, 1), value, np.float32), ("y",), timeout_s), {})


class Nets:
    """Doubles every row; keeps the sizes of its runs, and waits where it is told to."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()
        self.running = threading.Event()

    def __call__(self, jobs: Sequence[Job]) -> tuple[list[dict[str, Array]], Took]:
        self.running.set()
        assert self.free.wait(20)
        self.runs.append([len(each.question.x) for each in jobs])
        if any((each.question.x < 0).any() for each in jobs):
            raise ValueError("negative")
        return [{"y": 2 * each.question.x} for each in jobs], Took()


@pytest.fixture
def nets() -> Nets:
    return Nets()


@pytest.fixture
def batcher(nets: Nets) -> Iterator[Batcher]:
    made = Batcher(nets, queue_rows=20, merge_rows=8)
    yield made
    nets.free.set()
    made.close()


def behind_a_first(batcher: Batcher, nets: Nets, then: Callable[[], Sequence[Any]]) -> list[Done | BaseException]:
    """While a first job runs, queue others; then let all of them go on. What became of the others."""

    async def main() -> list[Done | BaseException]:
        nets.free.clear()
        first = asyncio.ensure_future(batcher.ask(job(1, "first", "first")))
        await asyncio.to_thread(nets.running.wait, 10)
        others = [asyncio.ensure_future(each) for each in then()]
        for _ in range(3):
            await asyncio.sleep(0)
        nets.free.set()
        await first
        return list(await asyncio.gather(*others, return_exceptions=True))

    return asyncio.run(main())


def test_what_comes_to_a_free_thread_is_run_at_once(batcher: Batcher, nets: Nets) -> None:
    found = asyncio.run(batcher.ask(job(3)))
    assert found.outputs["y"].tolist() == [[2.0]] * 3 and nets.runs == [[3]]
    assert batcher.rows == batcher.requests == 0


def test_what_came_meanwhile_is_run_together_up_to_the_limit(batcher: Batcher, nets: Nets) -> None:
    found = behind_a_first(batcher, nets, lambda: [batcher.ask(job(3, value=n)) for n in range(5)])
    assert [each.outputs["y"][0, 0] for each in found if isinstance(each, Done)] == [0, 2, 4, 6, 8]
    assert nets.runs == [[1], [3, 3], [3, 3], [3]]
    assert batcher.seen.runs == 4 and batcher.seen.rows == 16 and batcher.seen.by_rows == {1: 1, 4: 1, 8: 2}


def test_only_what_shares_a_part_is_run_together_and_nobody_is_passed_over(batcher: Batcher, nets: Nets) -> None:
    behind_a_first(
        batcher,
        nets,
        lambda: [batcher.ask(job(n, c, t)) for n, c, t in ((1, "a", "t"), (2, "b", "u"), (3, "c", "t"), (1, "b", "v"))],
    )
    assert nets.runs == [[1], [1, 3], [2, 1]]


@pytest.mark.parametrize(("row_s", "runs"), [([20, 20, 21], [[1], [1], [1], [1]]), ([9, 5, 3], [[1], [1, 1, 1]])])
def test_rows_run_together_where_that_is_faster(
    batcher: Batcher, nets: Nets, row_s: list[float], runs: list[list[int]]
) -> None:
    part = Part("t", ["y"], Eager(nn.Identity()))
    part._form.pace = dict(zip(SIZES, row_s, strict=True))  # type: ignore[union-attr]
    behind_a_first(batcher, nets, lambda: [batcher.ask(replace(job(1), parts={"t": part})) for _ in range(3)])
    assert nets.runs == runs


def test_a_job_over_the_limit_runs_by_itself(batcher: Batcher, nets: Nets) -> None:
    behind_a_first(batcher, nets, lambda: [batcher.ask(job(n)) for n in (12, 1, 2)])
    assert nets.runs == [[1], [12], [1, 2]]


def test_more_rows_than_the_queue_holds_are_refused_at_once(batcher: Batcher, nets: Nets) -> None:
    found = behind_a_first(batcher, nets, lambda: [batcher.ask(job(n)) for n in (8, 8, 8, 3)])
    assert [isinstance(each, Done) for each in found] == [True, True, False, True]
    refused = found[2]
    assert isinstance(refused, Unavailable) and refused.details["retry_after_s"] >= 1
    assert "17 rows wait already, the queue holds 20" in str(refused)
    assert batcher.rows == 0


def test_a_job_that_is_alone_is_always_taken(batcher: Batcher) -> None:
    assert isinstance(asyncio.run(batcher.ask(job(50))), Done)


def test_one_bad_job_fails_alone(batcher: Batcher, nets: Nets) -> None:
    found = behind_a_first(batcher, nets, lambda: [batcher.ask(job(2, value=value)) for value in (1, -1, 3)])
    assert [type(each).__name__ for each in found] == ["Done", "ValueError", "Done"]
    assert nets.runs == [[1], [2, 2, 2], [2], [2], [2]]
    assert batcher.rows == 0


def test_who_is_late_is_told_so_and_does_not_run(batcher: Batcher, nets: Nets) -> None:
    async def late() -> Done:
        return await batcher.ask(job(2, timeout_s=0.01))

    async def main() -> None:
        nets.free.clear()
        first = asyncio.ensure_future(batcher.ask(job(1)))
        await asyncio.to_thread(nets.running.wait, 10)
        second = asyncio.ensure_future(late())
        await asyncio.sleep(0.05)
        nets.free.set()
        with pytest.raises(Unavailable, match=r"within its timeout of 0\.01 s") as caught:
            await second
        assert caught.value.code == "deadline_exceeded"
        await first

    asyncio.run(main())
    assert nets.runs == [[1]]


def test_one_who_goes_away_leaves_the_queue(batcher: Batcher, nets: Nets) -> None:
    async def main() -> None:
        nets.free.clear()
        first = asyncio.ensure_future(batcher.ask(job(1)))
        await asyncio.to_thread(nets.running.wait, 10)
        second = asyncio.ensure_future(batcher.ask(job(2)))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        nets.free.set()
        await first
        await batcher.ask(job(3))

    asyncio.run(main())
    assert nets.runs == [[1], [3]] and batcher.rows == batcher.requests == 0


def test_one_whose_client_has_gone_leaves_the_queue(batcher: Batcher, nets: Nets) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def watch() -> None:
            await gone.wait()

        nets.free.clear()
        first = asyncio.ensure_future(batcher.ask(job(1)))
        await asyncio.to_thread(nets.running.wait, 10)
        second = asyncio.ensure_future(batcher.ask(job(2), watch))
        gone.set()
        with pytest.raises(ClientDisconnect):
            await second
        nets.free.set()
        await first
        await batcher.ask(job(3))

    asyncio.run(main())
    assert nets.runs == [[1], [3]]


def test_a_delay_waits_for_others_but_not_longer_and_not_for_a_full_batch(nets: Nets) -> None:
    batcher = Batcher(nets, 100, 8, delay_s=lambda name: 0.2 if name == "slow" else 0.0)

    async def main() -> None:
        began = time.perf_counter()
        both = [asyncio.ensure_future(batcher.ask(job(n, "slow", "s"))) for n in (2, 3)]
        await batcher.ask(job(1, "quick", "q"))
        assert time.perf_counter() - began < 0.15 and not any(each.done() for each in both)
        await asyncio.gather(*both)
        assert time.perf_counter() - began >= 0.2
        began = time.perf_counter()
        await asyncio.gather(*(batcher.ask(job(4, "slow", "s")) for _ in range(2)))
        assert time.perf_counter() - began < 0.2

    asyncio.run(main())
    batcher.close()
    assert nets.runs == [[1], [2, 3], [4, 4]]


def test_the_end_refuses_who_waits_and_what_comes_afterwards_begins_anew(batcher: Batcher, nets: Nets) -> None:
    before = set(threading.enumerate())  # another test's server may have a thread of this name

    async def main() -> None:
        nets.free.clear()
        first = asyncio.ensure_future(batcher.ask(job(1)))
        await asyncio.to_thread(nets.running.wait, 10)
        second = asyncio.ensure_future(batcher.ask(job(2)))
        await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.01)
        nets.free.set()
        await closing
        await first
        with pytest.raises(Unavailable, match="shutting down"):
            await second

    asyncio.run(main())
    assert {thread for thread in threading.enumerate() if thread.name == "engine"} <= before
    assert isinstance(asyncio.run(batcher.ask(job(1))), Done)


def test_the_thread_is_prepared_once() -> None:
    prepared: list[str] = []
    batcher = Batcher(Nets(), 10, 8, lambda: prepared.append(threading.current_thread().name))
    for _ in range(2):
        asyncio.run(batcher.ask(job(1)))
    batcher.close()
    assert prepared == ["engine"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc"), st.sampled_from("tu")), min_size=1, max_size=30))
def test_every_job_gets_its_own_answer_whatever_runs_together(asked: list[tuple[int, str, str]]) -> None:
    nets = Nets()
    batcher = Batcher(nets, 1000, 8)

    async def main() -> list[Done]:
        calls = [batcher.ask(job(rows, c, t, float(i))) for i, (rows, c, t) in enumerate(asked)]
        return list(await asyncio.gather(*calls))

    found = asyncio.run(main())
    batcher.close()
    for index, (done, (rows, _, _)) in enumerate(zip(found, asked, strict=True)):
        assert done.outputs["y"].tolist() == [[2.0 * index]] * rows
    assert sum(map(sum, nets.runs)) == sum(rows for rows, _, _ in asked) and batcher.rows == 0
    assert all(sum(run) <= 8 or len(run) == 1 for run in nets.runs)

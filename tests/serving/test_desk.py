"""A few threads for one kind of work: who waits for them holds none of the others."""

from __future__ import annotations

import asyncio
import threading
import time

import anyio.to_thread
import pytest

from graftery.errors import Unavailable
from serving.desk import Desk


def test_so_many_work_at_once_and_those_who_wait_hold_no_thread() -> None:
    async def scene() -> None:
        desk, lock, now, most = Desk(2, 100, "wait"), threading.Lock(), 0, 0

        def work() -> int:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= 1
            return 1

        asked = [asyncio.create_task(desk.do(work)) for _ in range(12)]
        await asyncio.sleep(0.005)
        assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        assert sum(await asyncio.gather(*asked)) == 12
        assert most == 2

    asyncio.run(scene())


def test_a_full_line_is_refused_and_empties() -> None:
    async def scene() -> None:
        desk, end = Desk(1, 4, "wait for the desk"), threading.Event()
        first = [asyncio.create_task(desk.do(end.wait, 2)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="4 rows wait for the desk already, the queue holds 4"):
            await desk.do(end.wait)
        end.set()
        await asyncio.gather(*first)
        assert await desk.do(end.wait, 400)

    asyncio.run(scene())


def test_who_gives_up_leaves_the_line() -> None:
    async def scene() -> None:
        desk, end = Desk(1, 1000, "wait"), threading.Event()
        first = asyncio.create_task(desk.do(end.wait))
        second = asyncio.create_task(desk.do(end.wait))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        end.set()
        await first

    asyncio.run(scene())

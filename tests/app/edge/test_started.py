"""A coroutine that is begun goes on, ends and fails as if it had been awaited."""

from __future__ import annotations

import asyncio

import pytest

from app.edge.started import Started


async def _waits(what: list[str]) -> str:
    try:
        for _ in range(3):
            await asyncio.sleep(0.001)
    except asyncio.CancelledError:
        what.append("cancelled")
        raise
    finally:
        what.append("ended")
    return "done"


def test_what_need_not_wait_is_over_at_once() -> None:
    async def main() -> None:
        async def at_once() -> int:
            return 3

        begun = Started(at_once())
        assert begun.is_over and begun.value == 3

    asyncio.run(main())


def test_what_waits_is_awaited_to_its_end() -> None:
    async def main() -> None:
        what: list[str] = []
        begun = Started(_waits(what))
        assert not begun.is_over
        async with asyncio.timeout(5):
            assert await begun == "done"
        assert what == ["ended"]

    asyncio.run(main())


def test_a_clock_that_runs_out_ends_it_inside_too() -> None:
    async def main() -> None:
        what: list[str] = []

        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                what.append("ended")

        begun = Started(forever())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await begun
        assert what == ["ended"]

    asyncio.run(main())


def test_an_error_comes_out_where_it_happens() -> None:
    async def main() -> None:
        async def fails(first: bool) -> None:
            if not first:
                await asyncio.sleep(0)
            raise KeyError

        with pytest.raises(KeyError):
            Started(fails(True))
        begun = Started(fails(False))
        with pytest.raises(KeyError):
            await begun

    asyncio.run(main())

"""The pool: shared parts, a budget that holds, and loading that is in nobody's way."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from graftery.errors import Unavailable
from serving.pool import Pool


class Shelf:
    """Loads strings, and knows what was loaded and freed. A digest that is in `slow` waits for its event."""

    def __init__(self) -> None:
        self.loaded: Counter[str] = Counter()
        self.freed: Counter[str] = Counter()
        self.slow: dict[str, threading.Event] = {}
        self.broken: set[str] = set()
        self.sizes: dict[str, int] = {}

    def load(self, digest: str) -> tuple[str, int]:
        self.loaded[digest] += 1
        if digest in self.slow:
            assert self.slow[digest].wait(10)
        if digest in self.broken:
            raise Unavailable(f"{digest} is damaged", code="not_ready")
        return f"net {digest}", self.sizes.get(digest, 10)

    def free(self, value: str) -> None:
        self.freed[value.removeprefix("net ")] += 1


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def make(shelf: Shelf) -> Iterator[Callable[..., Pool[str]]]:
    pools: list[Pool[str]] = []

    def made(budget: int = 100, wait_s: float = 5) -> Pool[str]:
        pools.append(Pool(shelf.load, shelf.free, budget, wait_s))
        return pools[-1]

    yield made
    for event in shelf.slow.values():
        event.set()
    for pool in pools:
        pool.close()


def parts(digests: str) -> dict[str, int]:
    return dict.fromkeys(digests, 10)


async def touch(pool: Pool[str], digests: str, owner: str | None = None) -> None:
    async with pool.hold(parts(digests), owner or digests) as nets:
        assert nets == {digest: f"net {digest}" for digest in digests}


def within(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, seconds))


def resident(pool: Pool[str]) -> str:
    return "".join(sorted(part.digest for part in pool.residents()))


def test_parts_are_loaded_once_and_shared(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make()

    async def main() -> None:
        await asyncio.gather(*(touch(pool, digests) for digests in ["fhg", "fkg", "fg"] * 10))

    within(5, main())
    assert shelf.loaded == Counter("fhkg")
    assert resident(pool) == "fghk" and pool.size_bytes == 40
    assert all(part.users == 0 for part in pool.residents())
    assert next(p for p in pool.residents() if p.digest == "h").owners == {"fhg"}


def test_the_least_recently_used_goes_first(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make(30)
    for digests in ("a", "b", "c", "a", "d"):
        within(5, touch(pool, digests))
    assert resident(pool) == "acd"
    assert shelf.freed == Counter("b")
    within(5, touch(pool, "b"))
    assert resident(pool) == "abd" and shelf.loaded["b"] == 2


def test_what_is_held_is_never_dropped(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make(20)

    async def main() -> None:
        async with pool.hold(parts("a"), "a"):
            for digests in "bcd":
                await touch(pool, digests)
            assert not shelf.freed["a"]

    within(5, main())
    assert resident(pool) == "ad"


def test_one_waits_until_there_is_room(make: Callable[..., Pool[str]]) -> None:
    pool = make(20)

    async def main() -> None:
        async with pool.hold(parts("ab"), "ab"):
            waiting = asyncio.create_task(touch(pool, "cd"))
            await asyncio.sleep(0.05)
            assert not waiting.done() and resident(pool) == "ab"
        await waiting

    within(5, main())
    assert resident(pool) == "cd"


def test_one_who_stops_waiting_for_room_takes_it_from_nobody(make: Callable[..., Pool[str]]) -> None:
    pool = make(10)

    async def main() -> None:
        async with pool.hold(parts("a"), "a"):
            first, second = (asyncio.create_task(touch(pool, "b")) for _ in range(2))
            await asyncio.sleep(0.05)
            first.cancel()
            await asyncio.sleep(0.05)
        await second

    within(5, main())


def test_waiting_for_room_ends(make: Callable[..., Pool[str]]) -> None:
    pool = make(10, wait_s=0.05)

    async def main() -> None:
        async with pool.hold(parts("a"), "a"):
            with pytest.raises(Unavailable, match="b has to wait for memory") as caught:
                await touch(pool, "b")
            assert caught.value.code == "unavailable"
        await touch(pool, "b")

    within(5, main())


def test_what_can_never_fit_is_refused_at_once(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make(25)
    within(5, touch(pool, "a"))
    with pytest.raises(Unavailable, match="abc takes 30 bytes of memory, the pool holds 25") as caught:
        within(1, touch(pool, "abc"))
    assert caught.value.code == "not_ready"
    assert resident(pool) == "a" and shelf.loaded == Counter("a")


def test_loading_blocks_nobody_else(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make()
    within(5, touch(pool, "ab"))
    shelf.slow["s"] = threading.Event()

    async def main() -> None:
        slow = [asyncio.create_task(touch(pool, "sa")) for _ in range(50)]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(touch(pool, "ab"), 1)
        await asyncio.wait_for(touch(pool, "c"), 1)  # another loader is free
        assert not any(task.done() for task in slow) and not pool.has(parts("s"))
        shelf.slow["s"].set()
        await asyncio.gather(*slow)

    within(10, main())
    assert shelf.loaded["s"] == 1


def test_one_who_goes_away_stops_no_loading(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make()
    shelf.slow["s"] = threading.Event()

    async def main() -> None:
        first, second = (asyncio.create_task(touch(pool, "s")) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0.01)
        shelf.slow["s"].set()
        await second

    within(5, main())
    assert shelf.loaded["s"] == 1 and [part.users for part in pool.residents()] == [0]


def test_a_failure_reaches_all_who_wait_and_the_next_tries_again(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make()
    shelf.broken.add("x")

    async def main() -> list[Any]:
        return list(await asyncio.gather(*(touch(pool, "ax") for _ in range(3)), return_exceptions=True))

    assert [str(error) for error in within(5, main())] == ["x is damaged"] * 3
    assert pool.failure("x") == "x is damaged"
    assert resident(pool) == "a" and pool.size_bytes == 10
    shelf.broken.clear()
    within(5, touch(pool, "ax"))
    assert pool.failure("x") is None


def test_release_drops_what_nobody_else_keeps(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make()
    for digests in ("fhg", "fkg"):
        within(5, touch(pool, digests))
    pool.release("fhg")
    assert resident(pool) == "fgk" and shelf.freed == Counter("h")
    pool.release("fkg")
    assert resident(pool) == "" and pool.size_bytes == 0


def test_a_loaded_part_has_no_loader_among_its_users(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    """Whoever is woken by the loading may hold, leave and release before the loader's thread runs again."""
    pool, interval = make(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(300):
            within(5, touch(pool, str(number % 10), "owner"))
            pool.release("owner")
            assert resident(pool) == "" and pool.size_bytes == 0
    finally:
        sys.setswitchinterval(interval)


def test_release_waits_for_those_who_hold(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make()

    async def main() -> None:
        async with pool.hold(parts("a"), "m"):
            pool.release("m")
            assert resident(pool) == "a" and not shelf.freed
        assert resident(pool) == "" and shelf.freed == Counter("a")

    within(5, main())


def test_the_size_is_that_of_the_loaded_part(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make()
    shelf.sizes["a"] = 7
    within(5, touch(pool, "a"))
    assert pool.size_bytes == 7


def test_close_ends_waiting_for_what_was_never_loaded(shelf: Shelf) -> None:
    pool = Pool(shelf.load, shelf.free, 100)
    shelf.slow = {digest: threading.Event() for digest in "ab"}

    async def main() -> None:
        tasks = [asyncio.create_task(touch(pool, digest)) for digest in "abc"]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(asyncio.to_thread(pool.close))
        await asyncio.sleep(0.05)
        for event in shelf.slow.values():
            event.set()
        await closing
        last = (await asyncio.gather(*tasks, return_exceptions=True))[2]
        assert isinstance(last, Unavailable)

    within(5, main())


def test_the_budget_holds_whatever_is_asked(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    """Many networks over few parts at once: never over budget, nothing freed in use, nothing left held."""
    pool = make(50)
    held: Counter[str] = Counter()
    over: list[int] = []
    chooser = random.Random(4)

    async def one(digests: str) -> None:
        async with pool.hold(parts(digests), digests):
            held.update(digests)
            await asyncio.sleep(chooser.random() / 500)
            over.extend([pool.size_bytes] if pool.size_bytes > 50 else [])
            assert all(part.users > 0 for part in pool.residents() if held[part.digest])
            held.subtract(digests)

    async def main() -> None:
        await asyncio.gather(*(one("".join(chooser.sample("abcdefgh", 3))) for _ in range(200)))

    within(20, main())
    assert over == [] and all(part.users == 0 for part in pool.residents())
    kept = shelf.loaded - shelf.freed
    assert sorted(kept.elements()) == list(resident(pool))


def test_after_the_end_it_begins_anew(make: Callable[..., Pool[str]], shelf: Shelf) -> None:
    pool = make()
    for _ in range(2):
        within(5, touch(pool, "ab"))
        pool.close()
        assert pool.residents() == [] and pool.size_bytes == 0
    assert shelf.loaded == shelf.freed == Counter("aabb")

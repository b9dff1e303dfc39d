"""The queue in front of the nets: one at a time, in order, bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from graftery.errors import Unavailable
from serving.engine import Engine, Gate


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(3)
    yield made
    made.close()


def test_work_is_done_in_one_thread_in_order(engine: Engine) -> None:
    done: list[int] = []

    def work(number: int) -> str:
        done.append(number)
        return threading.current_thread().name

    async def main() -> list[str]:
        return list(await asyncio.gather(*(engine.run(lambda n=n: work(n)) for n in range(3))))  # type: ignore[misc]

    assert len(set(asyncio.run(main()))) == 1
    assert done == [0, 1, 2]


def test_more_than_the_queue_holds_is_refused_at_once(engine: Engine) -> None:
    release = threading.Event()

    async def main() -> list[object]:
        calls = [asyncio.create_task(engine.run(release.wait)) for _ in range(5)]
        done, _ = await asyncio.wait(calls, timeout=5, return_when=asyncio.FIRST_EXCEPTION)
        assert len([call for call in calls if call in done]) >= 1
        release.set()
        return list(await asyncio.gather(*calls, return_exceptions=True))

    found = asyncio.run(main())
    refused = [error for error in found if isinstance(error, Unavailable)]
    assert found[:3] == [True, True, True]
    assert len(refused) == 2
    assert "3 requests wait for the engine already" in str(refused[0])
    assert refused[0].details["retry_after_s"] >= 1
    assert engine.gate.inside == 0


def test_one_who_goes_away_leaves_the_queue(engine: Engine) -> None:
    release, ran = threading.Event(), threading.Event()

    async def main() -> None:
        first = asyncio.create_task(engine.run(release.wait))
        second = asyncio.create_task(engine.run(ran.set))
        while engine.gate.inside < 2:
            await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await asyncio.sleep(0)  # the cancellation reaches the queue one turn later
        release.set()
        await first
        await engine.run(lambda: None)

    asyncio.run(main())
    assert not ran.is_set()
    assert engine.gate.inside == 0


def test_an_error_of_the_work_is_the_callers(engine: Engine) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(engine.run(fail))
    assert engine.gate.inside == 0


def test_the_thread_is_prepared_once() -> None:
    prepared: list[str] = []
    engine = Engine(2, lambda: prepared.append(threading.current_thread().name))
    names = [asyncio.run(engine.run(lambda: threading.current_thread().name)) for _ in range(2)]
    engine.close()
    assert prepared == [names[0]] and names[0] == names[1]


def test_a_gate_lets_in_again_after_an_error() -> None:
    gate = Gate(1, "wait")
    for _ in range(2):
        with pytest.raises(KeyError), gate.entered():
            raise KeyError
    with gate.entered(), pytest.raises(Unavailable), gate.entered():
        pass


def test_after_the_end_it_begins_anew(engine: Engine) -> None:
    names = []
    for _ in range(2):
        names.append(asyncio.run(engine.run(lambda: threading.current_thread().ident)))
        engine.close()
        assert names[-1] not in {thread.ident for thread in threading.enumerate()}

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from graftery.errors import Unavailable
from registry.access.rates import Rates
from registry.settings import Settings


async def taken(rates: Rates, tries: int, who: str = "one", kind: str = "infer") -> int:
    """How many of so many requests are let through."""
    found = 0
    for _ in range(tries):
        try:
            await rates.hit(kind, who)
        except Unavailable as error:
            assert error.code == "rate_limited"
            continue
        found += 1
    return found


def test_each_counts_by_itself() -> None:
    rates = Rates({"infer": "3/minute"})
    assert asyncio.run(taken(rates, 5)) == 3
    assert asyncio.run(taken(rates, 5, "two")) == 3
    assert asyncio.run(taken(rates, 5, kind="read")) == 5


def test_looking_counts_nothing() -> None:
    rates = Rates({"infer": "1/minute"})

    async def look() -> None:
        for _ in range(3):
            await rates.look("infer", "one")

    asyncio.run(look())
    assert asyncio.run(taken(rates, 2)) == 1
    with pytest.raises(Unavailable):
        asyncio.run(look())


def test_two_processes_count_together_in_redis(redis_url: str) -> None:
    async def both() -> tuple[int, int]:
        first, second = Rates({"infer": "5/minute"}, redis_url), Rates({"infer": "5/minute"}, redis_url)
        return await taken(first, 3), await taken(second, 3)

    assert asyncio.run(both()) == (3, 2)


def test_where_nothing_can_be_counted_nobody_is_refused() -> None:
    assert asyncio.run(taken(Rates({"infer": "1/minute"}, "redis://127.0.0.1:9"), 3)) == 3


def test_rates_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTERY_RATES", '{"infer": "100/second", "push": "60 per minute"}')
    assert Settings().rates == {"infer": "100/second", "push": "60 per minute"}
    assert asyncio.run(taken(Rates({**Settings().rates}), 61, kind="push")) == 60


def test_rates_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(rates={"infer": "many"})
    with pytest.raises(ValidationError):
        Settings(rates={"other": "1/second"})  # type: ignore[dict-item]

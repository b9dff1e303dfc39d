"""Pre-checks as the app keeps them: made once, waited for no longer than is allowed, and never an error."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.requests import prechecks
from app.requests.prechecks import Prechecks, Wanted
from graftery.spec.limits import Limits
from graftery.spec.recipes import TransplantRecipe
from graftery.spec.wire import PrecheckOut
from registry.children import Children
from registry.settings import Settings
from registry.store import Store
from tests.support import pretend_precheck

COMMAND = (sys.executable, pretend_precheck.__file__)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Settings(home=tmp_path, free_bytes=0))


@pytest.fixture
def pool(store: Store) -> Iterator[Prechecks]:
    made = Prechecks(store, Children(Limits(wall_s=5), 1, COMMAND, "the pre-check"))
    yield made
    made.close()


def _wanted(store: Store, text: str = "fine", seed: int = 0) -> Wanted:
    digest = store.put_bytes(text.encode()).digest
    recipe = TransplantRecipe(seed=seed).model_dump_json()
    return Wanted(digest, digest, (("net:1", digest, None), ("other:2", digest, digest)), recipe)


def _look(pool: Prechecks, wanted: Wanted, wait_s: float = 5.0) -> PrecheckOut:
    return asyncio.run(pool.look(wanted, wait_s))


def test_one_is_made_once(pool: Prechecks, store: Store) -> None:
    first = _look(pool, _wanted(store, seed=3))
    assert (first.status, first.seed, first.parameters) == ("ready", 3, 3)
    assert _look(pool, _wanted(store, seed=3), wait_s=0) == first
    assert _look(pool, _wanted(store, seed=4)).images != first.images


def test_what_takes_longer_than_one_waits_is_there_later(pool: Prechecks, store: Store) -> None:
    _look(pool, _wanted(store))  # the child is warm
    began = time.monotonic()
    early = _look(pool, _wanted(store, "slow"), wait_s=0.05)
    assert time.monotonic() - began < 0.8
    assert (early.status, early.parameters) == ("running", None)
    assert _look(pool, _wanted(store, "slow")).status == "ready"


def test_those_who_wait_for_one_wait_together(pool: Prechecks, store: Store) -> None:
    async def both() -> list[PrecheckOut]:
        return await asyncio.gather(*(pool.look(_wanted(store, "slow"), 5.0) for _ in range(5)))

    began = time.monotonic()
    assert len({found.images for found in asyncio.run(both())}) == 1
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(("text", "reason"), [("refuse", "the size is free"), ("die", "memory or CPU time")])
def test_what_cannot_be_made_says_why(pool: Prechecks, store: Store, text: str, reason: str) -> None:
    found = _look(pool, _wanted(store, text))
    assert found.status == "unavailable"
    assert reason in str(found.reason)
    assert _look(pool, _wanted(store)).status == "ready"


def test_what_passes_is_tried_again(pool: Prechecks, store: Store) -> None:
    wanted = _wanted(store)
    store.delete(wanted.category)
    assert _look(pool, wanted).status == "unavailable"
    store.put_bytes(b"fine")
    assert _look(pool, wanted).status == "ready"


def test_too_many_are_not_taken_on(pool: Prechecks, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prechecks, "WAITING", 2)
    found = [_look(pool, _wanted(store, "slow", seed), wait_s=0) for seed in range(3)]
    assert [each.status for each in found] == ["running", "running", "unavailable"]
    assert "ask again" in str(found[-1].reason)


def test_no_more_are_kept_than_is_said(pool: Prechecks, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prechecks, "KEPT", 2)
    first = _look(pool, _wanted(store, seed=1))
    for seed in (2, 3):
        _look(pool, _wanted(store, seed=seed))
    assert _look(pool, _wanted(store, seed=1)).images != first.images


def test_switched_off(store: Store) -> None:
    assert prechecks.children(Settings(prechecks=0)) is None
    found = _look(Prechecks(store, None), _wanted(store))
    assert found.status == "unavailable"
    assert "GRAFTERY_PRECHECKS" in str(found.reason)


def test_who_asks_at_the_end_is_told(pool: Prechecks, store: Store) -> None:
    pool.close()
    assert _look(pool, _wanted(store)).status == "unavailable"


def test_an_error_that_nobody_foresaw_is_a_reason_and_is_tried_again(
    store: Store, pool: Prechecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, failures, local_path = _wanted(store), [ZeroDivisionError("a bug")], store.local_path

    def failing(digest: str) -> Path:
        if failures:
            raise failures.pop()
        return local_path(digest)

    monkeypatch.setattr(store, "local_path", failing)
    first = asyncio.run(pool.look(wanted, 20))
    assert (first.status, first.reason) == ("unavailable", "a bug")
    assert asyncio.run(pool.look(wanted, 20)).status == "ready"

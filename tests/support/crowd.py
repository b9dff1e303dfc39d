"""Many at once: threads in this process, or processes that start on one signal."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from registry import catalogue, jobs
from registry.db import Database, upgrade
from registry.settings import Settings
from tests.support.registry import blob_of, put

_Result = TypeVar("_Result")
WAIT_S = 120.0


def in_threads(work: Callable[[int], _Result], n: int) -> list[_Result]:
    """`work(0)` to `work(n - 1)`, all at once; the first error is raised."""
    barrier = threading.Barrier(n)

    def run(index: int) -> _Result:
        barrier.wait(WAIT_S)
        return work(index)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


def in_processes(work: Callable[..., Any], n: int, *args: Any) -> list[Any]:
    """`work(index, *args)` in `n` fresh processes, all at once."""
    # A fork server imports everything once; the processes themselves begin without threads, connections or locks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "alembic.command"])
    barrier, results = context.Barrier(n), context.Queue()
    processes = [context.Process(target=_run, args=(work, index, barrier, results, args)) for index in range(n)]
    for process in processes:
        process.start()
    try:
        answers = dict(results.get(timeout=WAIT_S) for _ in processes)
    finally:
        for process in processes:
            process.join(WAIT_S)
            process.kill()
    for answer in answers.values():
        if isinstance(answer, Exception):
            raise answer
    return [answers[index] for index in range(n)]


def _run(work: Callable[..., Any], index: int, barrier: Any, results: Any, args: tuple[Any, ...]) -> None:
    try:
        barrier.wait(WAIT_S)
        results.put((index, work(index, *args)))
    except Exception as error:
        results.put((index, RuntimeError(f"{type(error).__name__}: {error}")))


def publish_texts(index: int, url: str, name: str, n: int) -> list[int]:
    """Publish `n` texts of one's own under the name; the numbers they got."""
    database = Database(url)
    numbers = []
    for turn in range(n):
        with database.transaction() as session:
            numbers.append(put(session, name, f"text {index} {turn}").number)
    database.dispose()
    return numbers


def claim_all(index: int, url: str) -> list[str]:
    """Claim and finish jobs until there are none."""
    database = Database(url)
    ids = []
    while True:
        with database.transaction() as session:
            claim = jobs.claim(session, f"worker-{index}", 60.0)
        if claim is None:
            database.dispose()
            return ids
        ids.append(claim.id)
        with database.transaction() as session:
            assert jobs.finish(session, claim.id, claim.attempt, {})


def upgrade_schema(_index: int, url: str, home: Path) -> None:
    """Bring the schema up to date."""
    upgrade(Settings(database_url=url, home=home))


def publish_same(index: int, url: str) -> tuple[int, bool]:
    """Publish one and the same text."""
    database = Database(url)
    with database.transaction() as session:
        version, created = catalogue.publish(session, name="cat", kind="category", blob=blob_of("same"), by=str(index))
        answer = version.number, created
    database.dispose()
    return answer

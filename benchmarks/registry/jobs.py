"""Jobs a second through queue and table: with messages over Redis on PostgreSQL, and with polls alone on SQLite."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import URL, delete, func, insert, select

from benchmarks.registry import ours
from benchmarks.registry.backing import new_database
from benchmarks.registry.measuring import Ask, Bench, Result, closed
from benchmarks.serving.figures import percentiles
from benchmarks.serving.processes import BenchError, ending
from registry import jobs as table
from registry import queue
from registry.db import Database
from registry.models import Job, JobEventRow
from registry.settings import Settings

WORKERS = (1, 2, 4)
BACKLOGS = (100, 10_000)
AT_ONCE = 200
ALONE, BETWEEN_S = 20, 0.2
CLAIMS = 100
SUBMIT_S = 2.0
WAIT_S = 120.0
BROKER_POLL_S = 2.0
"""Of workers that a message wakes; embedded ones have the default."""
REQUEST = {"dry_run": True}
"""Of a collection that only counts, in an empty store: what is left is queue and table."""


def jobs(bench: Bench) -> Result:
    """Jobs a second through queue and table"""
    with new_database(bench.server) as url:
        found = {"postgresql": _measured(bench, url)}
    return found | {"sqlite": _measured(bench, None)}


def _measured(bench: Bench, url: URL | None) -> Result:
    more = {} if url is None else {"broker_url": bench.broker, "poll_s": BROKER_POLL_S}
    chosen = ours.settings(bench.folder("jobs"), url, **more)
    ours.prepare(chosen)
    database = Database(chosen.database)
    try:
        found: Result = {"claims": {str(backlog): _claims(bench, database, backlog) for backlog in BACKLOGS}}
        found["workers"] = {str(count): _with_workers(bench, chosen, database, count) for count in WORKERS}
        found["submit"] = _submitted(bench, chosen)
    finally:
        database.dispose()
    return found


def _claims(bench: Bench, database: Database, backlog: int) -> list[Result]:
    """Claim and finish, two transactions a job, by one process, where so many are queued."""
    rounds = []
    for _ in range(bench.rounds):
        _empty(database)
        _queue(database, backlog)
        seconds = []
        for _ in range(CLAIMS):
            began = time.perf_counter()
            with database.transaction() as session:
                claim = table.claim(session, "bench", 60.0)
            if claim is None:
                raise BenchError("a job that was queued is not due")
            with database.transaction() as session:
                table.finish(session, claim.id, claim.attempt, {})
            seconds.append(time.perf_counter() - began)
        rounds.append({"per_s": round(CLAIMS / sum(seconds), 2), **percentiles([1e3 * one for one in seconds])})
    said = ", ".join(f"{one['per_s']:.0f}/s" for one in rounds)
    bench.say(f"{database.url.get_backend_name()}, claimed and finished of {backlog}: {said}")
    return rounds


def _empty(database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(JobEventRow))
        session.execute(delete(Job))


def _queue(database: Database, count: int) -> list[str]:
    """Rows as submitting leaves them."""
    rows = [{"id": f"{at:032x}", "kind": "collect", "request": REQUEST, "pinned": {}} for at in range(count)]
    with database.transaction() as session:
        session.execute(insert(Job), [{**row, "last_seq": 1} for row in rows])
        events = [{"job_id": row["id"], "seq": 1, "type": "state", "data": {"state": "queued"}} for row in rows]
        session.execute(insert(JobEventRow), events)
    return [str(row["id"]) for row in rows]


def _with_workers(bench: Bench, chosen: Settings, database: Database, count: int) -> list[Result]:
    """Real workers: how soon one job that comes alone is taken, and how many a second where many come at once."""
    trees = []
    with contextlib.ExitStack() as stack:
        for number in range(count):
            trees.append(ours.worker(chosen, number))
            stack.enter_context(ending([trees[-1]]))
        for tree in trees:
            ours.settle(tree)
        rounds = [_worked(chosen, database) for _ in range(bench.rounds)]
    said = ", ".join(f"{one['per_s']:.0f}/s, taken after p50 {one['taken']['p50_ms']:.0f} ms" for one in rounds)
    bench.say(f"{database.url.get_backend_name()}, {count} workers: {said}")
    return rounds


def _worked(chosen: Settings, database: Database) -> Result:
    _empty(database)
    for _ in range(ALONE):
        _submit(chosen, database, 1)
        time.sleep(BETWEEN_S)
    _await_all(database)
    alone = [(1e3 * (started - created).total_seconds()) for created, started, _ in _times(database)]
    _empty(database)
    _submit(chosen, database, AT_ONCE)
    _await_all(database)
    times = _times(database)
    seconds = (max(ended for _, _, ended in times) - min(created for created, _, _ in times)).total_seconds()
    return {"per_s": round(AT_ONCE / seconds, 2), "taken": percentiles(alone)}


def _submit(chosen: Settings, database: Database, count: int) -> None:
    """As the API does it: rows in a transaction, then a message each."""
    with database.transaction() as session:
        ids = [table.submit(session, kind="collect", request=REQUEST, pinned={}).id for _ in range(count)]
    for one in ids:
        queue.wake(chosen, one)


def _await_all(database: Database) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with database.read() as session:
            open_ = session.scalar(select(func.count()).where(Job.state.in_(("queued", "running"))))
            failed = session.scalar(select(func.count()).where(Job.state == "failed"))
        if failed:
            raise BenchError(f"{failed} jobs failed")
        if not open_:
            return
        time.sleep(0.1)
    raise BenchError(f"{open_} jobs did not end within {WAIT_S:.0f} s")


def _times(database: Database) -> Sequence[Any]:
    with database.read() as session:
        return session.execute(select(Job.created_at, Job.started_at, Job.finished_at)).all()


def _submitted(bench: Bench, chosen: Settings) -> list[Result]:
    """Requests that queue a job, where no worker takes them."""
    ask = Ask("POST", "/v1/collect", ('"state":"queued"',), REQUEST)
    server = ours.api(chosen, ours.server_core())
    with ending([server.tree]):
        rounds = [closed(bench, server, [ask], connections=8, seconds=SUBMIT_S) for _ in range(bench.rounds)]
    said = ", ".join(f"{one['per_s']:.0f}/s" for one in rounds)
    bench.say(f"submitted over HTTP: {said}")
    return rounds

"""A thousand listeners of live events at one API process: who gets what, how soon, and what a listener takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.registry import ours
from benchmarks.registry.backing import new_database
from benchmarks.registry.measuring import Bench, Result, command, environment
from benchmarks.serving.contenders import ROOT, Running
from benchmarks.serving.figures import percentiles
from benchmarks.serving.processes import BenchError, ending
from registry import jobs
from registry.db import Database

LISTENERS, LISTENERS_QUICK = 1000, 200
SPREADS = {"one": 1, "fifty": 50, "each": 0}
"""Over how many jobs the listeners are spread; 0: a job each."""
EVENTS = 12
EACH_S = 0.6
"""Between two events of a job; workers keep to two a second."""
READY_S, END_S = 120.0, 30.0


def listeners(bench: Bench) -> Result:
    """A thousand listeners of live events, on PostgreSQL"""
    count = LISTENERS_QUICK if bench.quick else LISTENERS
    found: Result = {"listeners": count}
    for name, spread in SPREADS.items():
        found[name] = [_run(bench, count, spread or count) for _ in range(bench.rounds)]
        for one in found[name]:
            bench.say(
                f"{count} listeners of {one['jobs']} jobs: {one['complete']} got everything, last one p50 "
                f"{one['last']['p50_ms']:.0f} ms, p99 {one['last']['p99_ms']:.0f} ms, {one['kib']:.0f} KiB each"
            )
    return found


def _run(bench: Bench, count: int, spread: int) -> Result:
    """An API of its own: memory that an earlier run left is not counted."""
    with new_database(bench.server) as url:
        chosen = ours.settings(bench.folder("listeners"), url)
        ours.prepare(chosen)
        server, database = ours.api(chosen, ours.server_core()), Database(chosen.database)
        try:
            with ending([server.tree]):
                return _listened(bench.scratch, server, database, count, spread)
        finally:
            database.dispose()


def _listened(scratch: Path, server: Running, database: Database, count: int, spread: int) -> Result:
    claims = _claimed(database, spread)
    plan = {"port": server.port, "jobs": [claims[at % spread].id for at in range(count)]}
    plan |= {"timeout_s": READY_S + EVENTS * EACH_S + END_S}
    path, before = scratch / "listeners.json", server.tree.memory()["pss_mib"]
    path.write_text(json.dumps(plan))
    with subprocess.Popen(
        command("listener", str(path)), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BenchError("not all listeners got their first event")
        kib = 1024 * (server.tree.memory()["pss_mib"] - before) / count
        written = _write(database, claims)
        found = json.loads(process.stdout.read())
    return judged(found, written) | {"jobs": spread, "kib": round(kib, 1), "written_s": _longest(written)}


def _claimed(database: Database, spread: int) -> list[jobs.Claim]:
    """Jobs that run, at a worker that is this process."""
    claims = []
    with database.transaction() as session:
        for _ in range(spread):
            jobs.submit(session, kind="collect", request={}, pinned={})
        for _ in range(spread):
            claim = jobs.claim(session, "bench", 600.0)
            if claim is None:
                raise BenchError("a job that was queued is not due")
            claims.append(claim)
    return claims


Written = dict[str, dict[int, float]]
"""Of each job, when its events were committed, by their numbers."""


def _write(database: Database, claims: list[jobs.Claim]) -> Written:
    """Events of every job, one transaction each, and the end of the job; an event of each, then the next."""
    written: Written = {claim.id: {} for claim in claims}
    for step in range(1, EVENTS + 1):
        began = time.monotonic()
        for claim in claims:
            with database.transaction() as session:
                if not jobs.progress(session, claim.id, claim.attempt, {"step": step}):
                    raise BenchError("the job was taken away")
            written[claim.id][step + 2] = time.monotonic()
        time.sleep(max(0.0, EACH_S - (time.monotonic() - began)))
    for claim in claims:
        with database.transaction() as session:
            jobs.finish(session, claim.id, claim.attempt, {})
    return written


def _longest(written: Written) -> float:
    """How long writing one event of every job took."""
    numbers = next(iter(written.values()))
    return round(
        max(
            max(at[number] for at in written.values()) - min(at[number] for at in written.values())
            for number in numbers
        ),
        3,
    )


def judged(found: dict[str, Any], written: Written) -> Result:
    """Who got everything in time; delays from the commit to each listener, and to the last of an event's."""
    delays: list[float] = []
    last: dict[tuple[str, int], float] = {}
    complete = 0
    for one in found["seen"]:
        at = {int(number): when for number, when in one["at"].items()}
        sent = written[one["job"]]
        # Queued and running before; result and the last state after.
        complete += sorted(at) == list(range(1, max(sent) + 3))
        for number, when in sent.items():
            if number in at:
                delay = 1e3 * max(0.0, at[number] - when)
                delays.append(delay)
                last[one["job"], number] = max(last.get((one["job"], number), 0.0), delay)
    return {
        "complete": complete,
        "ended": found["ended"],
        "every": percentiles(delays),
        "last": percentiles(list(last.values())) | {"mean_ms": round(statistics.mean(last.values()), 3)},
    }

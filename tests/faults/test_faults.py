"""Everything dies, again and again, while uploads, transplants and inferences go on: nothing is lost, nothing is there twice.

`make test-faults` is the long form, with real transplants: 200 jobs, 50 kills. A run's seed is printed; SEED=... repeats
its schedule. The short form does a little of each.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from graftery.client import sending
from registry import jobs
from registry.db import Database
from registry.store import Store
from tests.faults import checks, driver
from tests.faults.checks import Findings
from tests.faults.faults import Faults, schedule
from tests.faults.record import Size, Trial
from tests.faults.site import Site, running
from tests.support import servers
from tests.support.processes import eventually, gone

pytestmark = [pytest.mark.trips, pytest.mark.slow, pytest.mark.xdist_group("trips")]
WHOLE = os.environ.get("GRAFTERY_FAULTS") == "whole"
SEED = int(os.environ.get("SEED") or (random.randrange(10**6) if WHOLE else 1))

SHORT = Size(
    jobs=12,
    uploads=20,
    contents=6,
    at_once=4,
    lease_s=1.0,
    grace_s=4.0,
    kills={"worker": 2, "child": 2, "api": 1, "inference": 1, "verifier": 1},
    faults=10,
    pause_s=(0.1, 0.4),
    patience_s=1,
    calm_s=40,
)
LONG = Size(
    jobs=200,
    uploads=200,
    contents=12,
    at_once=8,
    lease_s=4.0,
    grace_s=15.0,
    kills={"worker": 15, "child": 14, "api": 9, "inference": 7, "verifier": 5},
    faults=50,
    pause_s=(0.5, 3.0),
    patience_s=60,
    calm_s=240,
)
COUNTS = {"api": 2, "inference": 2, "worker": 3} if WHOLE else {"api": 1, "inference": 1, "worker": 3}
_TRIES = 5
RUNNER = "worker.transplanting" if WHOLE else "tests.support.busy_child"


def _settings(size: Size) -> dict[str, str]:
    return {
        "lease_s": str(size.lease_s),
        "heartbeat_s": "0.2",
        "poll_s": "0.3",
        "checkpoint_s": "0.3",
        "collect_grace_s": str(size.grace_s),
        "certify_networks": "2",
        # A job that is hit again and again is to go on, not to be given up.
        "max_crashes": "1000",
        "prechecks": "0",
        "upload_part_bytes": "16384",
        "infer_merge": "1",
    }


def _say(text: str) -> None:
    print(text, flush=True)


def _break_things(trial: Trial, database: Database) -> None:
    """All faults of the schedule, while the driver works; then all is mended, and the driver comes to its end."""
    chance = random.Random(f"pauses {trial.seed}")
    faults = Faults(trial, database)
    planned = schedule(trial.size.kills, trial.size.faults, trial.seed)
    began = time.monotonic()
    with driver.driving(trial):  # whose end waits for all jobs that were asked for
        for number, fault in enumerate(planned, 1):
            time.sleep(chance.uniform(*trial.size.pause_s))
            # Spread over the work, however fast the machine is: where nothing gets done, nothing is tried.
            due = (number - 1) * trial.size.jobs // len(planned)
            eventually(lambda due=due: trial.record.ended >= due, trial.size.patience_s)
            faults.do(fault)
            _say(f"{time.monotonic() - began:6.1f} s  {number:3}/{len(planned)} {fault:24} {trial.record.done}")
        faults.mend()
        for _ in range(_TRIES):
            if faults.overtaken:
                break
            faults.do("worker paused")  # nobody was there to take the job of the one before
            faults.mend()
    if WHOLE:  # whom no kill of many ever finds is looked for by a name that it has no more
        missed = [whom for whom in trial.size.kills if not trial.record.faults[f"kill {whom}"]]
        assert not missed, f"no {missed} was ever there to be killed"


def _calm(trial: Trial, database: Database) -> None:
    """Wait until every part runs and every job has ended; then collect what nothing names."""
    assert eventually(trial.site.ready, trial.size.calm_s), (
        f"not all are ready again: see the logs in {trial.site.home}"
    )

    def over() -> bool:
        with database.read() as session:
            counts = jobs.counts(session)
            return not counts.get("queued") and not counts.get("running")

    assert eventually(over, trial.size.calm_s), "some jobs do not end"
    time.sleep(trial.size.grace_s + 0.5)
    freed = driver.collected(trial)
    trial.record.answers["bytes that collect freed at the end"] += freed["freed"]


def _report(trial: Trial, findings: Findings) -> None:
    site, record = trial.site, trial.record
    shown = {
        "seed": trial.seed,
        "disk": "real" if site.disk.real else "a store that says it is full",
        "faults": dict(sorted(record.faults.items())),
        "starts": dict(site.starts),
        "ended by themselves": dict(site.deaths),
        "answers": dict(sorted(record.answers.items())),
        **findings.counts,
    }
    _say("\n".join(["", *(f"{name:30} {value}" for name, value in shown.items())]))
    _say("\n".join(f"WRONG: {wrong}" for wrong in findings.wrong))


@pytest.mark.timeout(3600 if WHOLE else 300)
def test_nothing_is_lost_and_nothing_is_there_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    size = LONG if WHOLE else SHORT
    monkeypatch.setattr(sending, "IN_PARTS_BYTES", 20_000)
    _say(f"seed {SEED}")
    fast = servers.folder() / f"faults-{uuid4().hex[:8]}"
    fast.mkdir(mode=0o755)
    with running(tmp_path, fast, COUNTS, RUNNER, **_settings(size)) as site:
        trial = Trial(site, size, SEED, real=WHOLE)
        everyone = _tried(trial)
    assert gone(everyone), "a process is left"


def _tried(trial: Trial) -> list[psutil.Process]:
    site: Site = trial.site
    database, store = Database(site.settings.database), Store(site.settings)
    driver.prepare(trial)
    _break_things(trial, database)
    _say("all of it is done, and is looked at")
    _calm(trial, database)
    findings = checks.everything(trial, database, store)
    database.dispose()
    _report(trial, findings)
    assert not findings.wrong, "\n".join(findings.wrong)
    assert not site.deaths, f"ended by themselves: {site.deaths}"
    return site.processes()

from __future__ import annotations

import hashlib

import pytest

from registry import jobs
from tests.support.workplace import Workplace
from worker.bench import Bench
from worker.parent import run_next


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_checkpoint_replaces_the_one_before(bench: Bench, place: Workplace) -> None:
    before = {found.digest for found in place.store.stored()}
    job_id = place.submit(steps=8, checkpoint_every=1, step_s=0.02)
    assert run_next(bench) and place.job(job_id).state == "succeeded"
    made = {found.digest for found in place.store.stored()} - before
    assert place.job(job_id).checkpoint_step == 8
    assert len(made) == 3, "the adapter, its network and probes: the last checkpoint goes with the job's end"


@pytest.mark.parametrize("way", ["failed", "queued"])
def test_a_checkpoint_goes_with_the_job_and_not_before(bench: Bench, place: Workplace, way: str) -> None:
    last = {"name": "cat"} if way == "failed" else {"die_at": 5}
    job_id = place.submit(steps=6, checkpoint_every=2, step_s=0.05, **last)
    before = {found.digest for found in place.store.stored()}
    assert run_next(bench) and place.job(job_id).state == way
    with place.database.read() as session:
        held = jobs.get(session, job_id).checkpoint_digest
    checkpoints = {found.digest for found in place.store.stored()} - before
    if way == "queued":
        assert checkpoints == {held}
    else:
        assert held is None and digest_of("6") not in checkpoints

from __future__ import annotations

from tests.support.workplace import Workplace
from worker.bench import Bench
from worker.parent import run_next


def test_a_checkpoint_replaces_the_one_before(bench: Bench, place: Workplace) -> None:
    before = {found.digest for found in place.store.stored()}
    job_id = place.submit(steps=8, checkpoint_every=1, step_s=0.02)
    assert run_next(bench) and place.job(job_id).state == "succeeded"
    made = {found.digest for found in place.store.stored()} - before
    assert place.job(job_id).checkpoint_step == 8
    assert len(made) == 4, "the adapter, its network and probes, and the last checkpoint"

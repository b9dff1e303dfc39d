"""What has to be true when all is over: each check counts, and says what is wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import numpy as np
import torch
from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery import compose, load
from graftery.client.http import Client
from registry.db import Database
from registry.models import BlobRow, Job, JobEventRow, JobPin, Module, ProbesRow, UploadPiece, UploadRow, Version
from registry.store import Store
from tests.faults.record import Record, Trial
from tests.support import files

# Networks that jobs made.
_ASKED = 12
FINAL = {"succeeded", "failed", "cancelled"}


@dataclass
class Findings:
    counts: dict[str, object] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def check(self, fine: object, otherwise: str) -> None:
        if not fine:
            self.wrong.append(otherwise)


def everything(trial: Trial, database: Database, store: Store) -> Findings:
    """All checks, of a site where nothing runs any more that writes."""
    findings = Findings(wrong=list(trial.record.wrong))
    with database.read() as session:
        _jobs(findings, session, trial.record)
        _adapters(findings, session)
        _events(findings, session, trial.record, trial.real)
        _bytes(findings, session, store)
        _uploads(findings, session, trial.record)
        if trial.real:
            _networks(findings, session, trial)
    _downloads(findings, trial)
    return findings


def _jobs(findings: Findings, session: Session, record: Record) -> None:
    """Each that was accepted is there, once, and has ended: succeeded, unless somebody cancelled it."""
    rows = session.scalars(select(Job)).all()
    transplants = [row for row in rows if row.kind == "transplant"]
    states = Counter(f"{row.state} {row.error_code or ''}".strip() for row in rows)
    of_seed = Counter(row.recipe["seed"] for row in transplants if row.recipe)
    findings.counts["jobs"] = dict(states)
    findings.counts["transplants"] = {
        "asked for": len(record.asked),
        "accepted": len(record.jobs),
        "reply lost, row there": len(set(of_seed) - set(record.jobs)),
        "lost": len(set(record.jobs.values()) - {row.id for row in transplants}),
        "doubled": sum(count - 1 for count in of_seed.values()),
        "attempts": sum(row.attempt for row in transplants),
    }
    ids = {row.id: row for row in transplants}
    for seed, job in record.jobs.items():
        findings.check(job in ids, f"job {job} of seed {seed} was accepted and is lost")
    for seed, count in of_seed.items():
        findings.check(count == 1, f"the transplant of seed {seed} is there {count} times")
        findings.check(seed in record.asked, f"nobody asked for the transplant of seed {seed}")
    for row in rows:
        cancelled = row.cancel_requested or (row.recipe or {}).get("seed") in record.cancelled
        allowed = {"succeeded", "cancelled"} if cancelled else {"succeeded"}
        how = f"{row.state} {row.error_code or ''} {row.error_message or ''}"
        findings.check(row.state in allowed, f"job {row.id} ({row.kind}) is {how}")
    pinned = session.scalars(select(JobPin.job_id)).all()
    findings.check(not pinned, f"jobs that ended still hold versions: {pinned}")


def _adapters(findings: Findings, session: Session) -> None:
    """A job that succeeded made one adapter and one network, which its result names; any other made none."""
    made: dict[tuple[str, str], list[str]] = {}
    for version in session.scalars(select(Version)):
        made.setdefault((version.created_by or "", version.module.kind), []).append(version.ref)
    doubled = 0
    for row in session.scalars(select(Job).where(Job.kind == "transplant")):
        for kind in ("adapter", "network"):
            found = made.pop((f"job {row.id}", kind), [])
            wanted = [(row.result or {}).get(kind)] if row.state == "succeeded" else []
            doubled += max(0, len(found) - 1)
            findings.check(found == wanted, f"job {row.id} ({row.state}) names {kind} {wanted} and made {found}")
    left = [key for key in made if key[0].startswith("job ")]
    findings.check(not left, f"versions of jobs that are not there: {left}")
    findings.counts["adapters or networks doubled"] = doubled


def _events(findings: Findings, session: Session, record: Record, real: bool) -> None:
    """The history of each job has no hole, one end, and in each attempt only what the worker of that attempt wrote."""
    written: Counter[str] = Counter()
    for row in session.scalars(select(Job).where(Job.kind == "transplant")):
        query = select(JobEventRow).where(JobEventRow.job_id == row.id).order_by(JobEventRow.seq)
        events = session.scalars(query).all()
        findings.check([e.seq for e in events] == list(range(1, row.last_seq + 1)), f"job {row.id}: events are missing")
        ends = [e.seq for e in events if e.type == "state" and e.data["state"] in FINAL]
        findings.check(ends == [row.last_seq], f"job {row.id} ended at {ends} of {row.last_seq} events")
        for problem in _strangers(events, written, real):
            findings.check(False, f"job {row.id}: {problem}")
    taken = [job for job, attempt in record.zombies if session.get_one(Job, job).attempt > attempt]
    findings.counts["zombies"] = {"paused": len(record.zombies), "woke up without their job": len(taken)}
    findings.counts["events"] = dict(written)
    findings.check(taken or not record.zombies, "no paused worker lost its job: nothing was tried")


def _strangers(events: list[JobEventRow], written: Counter[str], real: bool) -> Iterator[str]:
    """What was not written by the worker that had the job then."""
    worker, attempt, step = None, 0, 0
    for event in events:
        written[event.type] += 1
        if event.type == "state":
            state = event.data["state"]
            worker = int(event.data["worker"].rpartition(":")[2]) if state == "running" else None
            if state == "running":
                attempt += 1
                if event.data["attempt"] != attempt:
                    yield f"attempt {event.data['attempt']} follows attempt {attempt - 1}"
            continue
        if worker is None:
            yield f"a {event.type} at {event.seq}, when no worker had the job"
        signed = event.data.get("worker", event.data.get("metrics", {}).get("worker"))
        if event.type in ("progress", "result") and signed != worker:
            yield f"a {event.type} at {event.seq} in attempt {attempt} of worker {worker} is signed by {signed}"
        if event.type == "checkpoint" and not real:  # which has two phases, each with its steps
            if event.data["step"] < step:
                yield f"a checkpoint at {event.seq} goes back from step {step} to {event.data['step']}"
            step = event.data["step"]


def _bytes(findings: Findings, session: Session, store: Store) -> None:
    """Every row's bytes verify; what is stored has a row, and a version or a record that names it."""
    rows = {row.digest: row.size_bytes for row in session.scalars(select(BlobRow))}
    named = set(session.scalars(select(Version.digest))) | set(session.scalars(select(ProbesRow.digest)))
    stored = {found.digest: found.size_bytes for found in store.stored()}
    for digest, size in rows.items():
        whole = hashlib.sha256()
        if digest in stored:
            for chunk in store.read(digest):
                whole.update(chunk)
        findings.check(digest in stored, f"the bytes of row {digest} are lost")
        verifies = whole.hexdigest() == digest and stored.get(digest) == size
        findings.check(digest not in stored or verifies, f"the bytes {digest} do not verify")
    orphans = set(stored) - named
    findings.check(
        not orphans, f"{len(orphans)} files that nothing names are left after collect: {sorted(orphans)[:5]}"
    )
    findings.check(set(rows) == named, f"rows of bytes and what names them differ by {set(rows) ^ named}")
    staged = [path.name for path in store.staging.iterdir()]
    findings.check(not staged, f"staged files are left after collect: {staged}")
    uploads = [*(kept.upload for kept in store.uploads()), *session.scalars(select(UploadRow.id))]
    pieces = session.scalars(select(UploadPiece.upload_id)).all()
    findings.check(not uploads and not pieces, f"uploads are left: {uploads} {pieces}")
    findings.counts["bytes"] = {"files": len(stored), "orphans": len(orphans), "lost": len(set(rows) - set(stored))}


def _uploads(findings: Findings, session: Session, record: Record) -> None:
    there = {
        version.module.name: version.digest
        for version in session.scalars(select(Version).join(Module).where(Module.kind == "samples"))
    }
    kept = {name: digest for name, digest in record.uploads.items() if name not in record.dropped}
    lost = [name for name, digest in kept.items() if there.get(name) != digest]
    back = sorted((record.dropped & set(there)) - record.unsure)
    findings.check(not lost, f"uploads were accepted and are lost: {lost}")
    findings.check(not back, f"deleted versions are there again: {back}")
    strange = set(there) - set(kept) - record.unsure
    findings.check(not strange, f"nobody uploaded {sorted(strange)}")
    again = sum(name.startswith("again-") for name in kept)
    findings.counts["uploads"] = {
        "accepted": len(kept),
        "of them while collect freed the same bytes": again,
        "lost": len(lost),
        "reply lost, row there": len((record.unsure & set(there)) - set(kept)),
    }


def _networks(findings: Findings, session: Session, trial: Trial) -> None:
    """What jobs made is served: it answers as the same modules do here, to the last bit."""
    category, task = files.parts(seed=2)[0], files.parts(seed=1)[1]
    x = torch.randn(2, 1, files.SIDE, files.SIDE, generator=torch.Generator().manual_seed(9))
    made = session.scalars(select(Job).where(Job.kind == "transplant", Job.state == "succeeded").order_by(Job.id))
    results = [row.result or {} for row in made][:_ASKED]
    with Client(trial.site.api) as api, Client(trial.site.inference) as inference, torch.no_grad():
        for result in results:
            adapter = load(api.pull(result["adapter"], trial.site.home))
            right = compose(category, adapter, task)(x).numpy()
            same = np.array_equal(inference.infer(result["network"], x.numpy()), right)
            findings.check(same, f"{result['network']} does not answer as its modules do")
    findings.counts["networks asked"] = len(results)


def _downloads(findings: Findings, trial: Trial) -> None:
    """What was accepted comes back bit by bit, as users get it."""
    kept = {name: digest for name, digest in trial.record.uploads.items() if name not in trial.record.dropped}
    with httpx.Client(base_url=trial.site.api, trust_env=False, timeout=30) as http:
        for name, digest in kept.items():
            answer = http.get(f"/v1/versions/{name}:1/file")
            right = answer.status_code == 200 and hashlib.sha256(answer.content).hexdigest() == digest
            findings.check(right, f"{name} comes back as {answer.status_code}, {len(answer.content)} bytes")

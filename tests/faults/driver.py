"""What users do meanwhile: upload, ask for transplants, ask networks, delete, collect. All of it by a seed."""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from safetensors.torch import save

from graftery import compose
from graftery.client.http import Client
from graftery.client.tensors import decode, encode
from graftery.errors import GrafteryError
from registry.store import Store
from tests.faults.asking import Asker, expect, guarded
from tests.faults.record import Trial
from tests.support import files

_NAMES = 12
RECIPE = {"steps": 30, "batch": 8, "inversion": {"steps": 10, "images": 16}}
_ENDED = {"succeeded", "failed", "cancelled"}


def prepare(trial: Trial) -> None:
    """What transplants join, and what the teacher's network answers, before anything dies; and what a crash leaves."""
    store = Store(trial.site.settings)
    store.put_bytes(b"bytes of a publish that never came to its row")
    (store.staging / "of-a-process-that-died").write_bytes(b"half a body")
    with Client(trial.site.api) as client:
        client.push("shared-is", files.parts(seed=1)[1])
        client.push_teacher("new", files.teacher(seed=2), cut=files.CUT)
    category, task = files.parts(seed=2)
    net = compose(category, None, task)
    for seed in range(5):
        rows = torch.randn(2, 1, files.SIDE, files.SIDE, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            trial.right.append(net(rows).numpy())
        trial.bodies.append(encode({"input": ("FP32", rows.numpy())}))


@contextmanager
def driving(trial: Trial) -> Iterator[None]:
    """The driver's threads, while faults happen in the block; at its end they come to theirs."""
    parts = (_transplants, _uploads, _infers, _infers, _churn)
    threads = [threading.Thread(target=guarded, args=(trial, part), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        trial.record.faults_over.set()
        for thread in threads[:2]:
            thread.join()
        trial.record.over.set()
        for thread in threads:
            thread.join()


def noise(seed: int, rows: int = 12) -> bytes:
    """A labelled sample set of these numbers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 1, files.SIDE, files.SIDE, generator=generator)
    return save({"x": x, "y": (torch.arange(rows) % 2).to(torch.int64)})


# --- uploads


def _uploads(trial: Trial) -> None:
    chance = random.Random(f"uploads {trial.seed}")
    with Asker(trial, trial.site.api) as asker, Client(trial.site.api) as client:
        for number in range(trial.size.uploads):
            name, way = f"set-{number}", chance.random()
            data = noise(chance.randrange(10**9), chance.choice([12, 200]))
            if way < 0.2:
                _push(trial, client, name, data)
            else:
                put(trial, asker, name, data, sure=way < 0.85)
            time.sleep(chance.uniform(0, 0.1))


def put(trial: Trial, asker: Asker, name: str, data: bytes, *, sure: bool = True) -> bool:
    """Upload a sample set; where it is not to be sure, send it once only."""
    digest = hashlib.sha256(data).hexdigest()
    stated = f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"
    ask = asker.until if sure else asker.once
    answer = ask("upload", "PUT", f"/v1/samples/{name}", content=data, headers={"Repr-Digest": stated})
    if answer is None or (sure and asker.resent):
        trial.record.unsure.add(name)
    if answer is None:
        return False
    if expect(trial, "upload", answer, 200, 201):
        trial.record.uploads[name] = answer.json()["digest"]
        return True
    return False


def _push(trial: Trial, client: Client, name: str, data: bytes) -> None:
    """As `graftery push` does: in parts, which go on after a break."""
    path = trial.site.home / name
    path.write_bytes(data)
    while True:
        try:
            version = client.push_samples(name, path)
        except GrafteryError as error:
            trial.record.count(f"push: {error.code}")
            if error.code not in {"service_error", "unavailable", "store_full"}:
                trial.record.complain(f"push: {error.code}: {error}")
                return
            time.sleep(0.2)
        else:
            trial.record.count("push: ok")
            trial.record.uploads[name] = version.digest
            return


# --- transplants


def _transplants(trial: Trial) -> None:
    chance = random.Random(f"transplants {trial.seed}")
    waiting: list[str] = []
    with Asker(trial, trial.site.api) as asker:
        for seed in itertools.count(1):
            if seed > trial.size.jobs and trial.record.faults_over.is_set():
                break
            while len(waiting) >= trial.size.at_once:
                waiting = _await_some(trial, asker, waiting)
            job = _submit(trial, asker, seed, sure=chance.random() < 0.75)
            if job is None:
                continue
            waiting.append(job)
            if chance.random() < 0.05:
                answer = asker.until("cancel", "POST", f"/v1/jobs/{job}/cancel")
                if expect(trial, "cancel", answer, 200, 409) and answer.status_code == 200:
                    trial.record.cancelled.add(seed)
        trial.record.faults_over.wait()
        while waiting:
            waiting = _await_some(trial, asker, waiting)


def _submit(trial: Trial, asker: Asker, seed: int, *, sure: bool) -> str | None:
    """Ask for a transplant. Where it is to be sure, again and again under one key; else once, whatever comes of it."""
    asked = {"name": f"net-{seed % _NAMES}", "category": "new", "task": "shared-is", "recipe": {**RECIPE, "seed": seed}}
    key = {"Idempotency-Key": f"transplant-{trial.seed}-{seed}"} if sure else {}
    trial.record.asked.add(seed)
    ask = asker.until if sure else asker.once
    answer = ask("transplant", "POST", "/v1/transplants", json=asked, headers=key)
    if answer is None or not expect(trial, "transplant", answer, 202):
        return None
    trial.record.jobs[seed] = answer.json()["id"]
    return trial.record.jobs[seed]


def _await_some(trial: Trial, asker: Asker, waiting: list[str]) -> list[str]:
    time.sleep(0.1)
    still = _still(asker, waiting)
    if len(still) < len(waiting):
        trial.record.ended += len(waiting) - len(still)
        trial.record.ended_at = time.monotonic()
    if time.monotonic() - trial.record.ended_at > trial.size.calm_s:
        raise TimeoutError(f"none of the jobs {still} ends")
    return still


def _still(asker: Asker, waiting: list[str]) -> list[str]:
    """Those that have not ended."""
    answer = asker.until("jobs", "GET", "/v1/jobs", params=[("id", job) for job in waiting])
    ended = {job["id"] for job in answer.json()["items"] if job["state"] in _ENDED}
    return [job for job in waiting if job not in ended]


# --- inference


def _infers(trial: Trial) -> None:
    """Ask the teacher's network, each time with one of a few inputs; every answer is right to the last bit."""
    chance = random.Random(f"infers {trial.seed}")
    with Asker(trial, trial.site.inference) as asker:
        while not trial.record.over.is_set():
            which = chance.randrange(len(trial.bodies))
            body, headers = trial.bodies[which]
            answer = asker.once("infer", "POST", "/v2/models/new-is-teacher/infer", content=body, headers=headers)
            if answer is not None and expect(trial, "infer", answer, 200):
                (found,) = decode(answer).values()
                if not np.array_equal(found, trial.right[which]):
                    trial.record.complain(f"infer: {found} in place of {trial.right[which]}")
            time.sleep(0.05)


# --- the same bytes, deleted and uploaded again while `collect` runs


def _churn(trial: Trial) -> None:
    chance = random.Random(f"churn {trial.seed}")
    with Asker(trial, trial.site.api) as asker, ThreadPoolExecutor(1) as pool:
        for turn in itertools.count():
            contents = [noise(chance.randrange(10**9)) for _ in range(trial.size.contents)]
            began = time.monotonic()
            for number, data in enumerate(contents):
                put(trial, asker, f"first-{turn}-{number}", data)
            for number in range(len(contents)):
                _delete(trial, asker, f"first-{turn}-{number}")
            # One after another they become old enough to go, and one after another they come again.
            trial.record.over.wait(max(0.0, began + trial.size.grace_s - time.monotonic()))
            if trial.record.over.is_set():
                return
            again = pool.submit(guarded, trial, partial(_again, turn=turn, contents=contents))
            while not again.done():
                _collect(trial, asker)
            again.result()
            trial.record.count("turns of deleting, collecting and uploading again")


def _delete(trial: Trial, asker: Asker, name: str) -> None:
    answer = asker.until("delete", "DELETE", f"/v1/versions/{name}:1")
    if expect(trial, "delete", answer, 204, 404):
        trial.record.dropped.add(name)


def _again(trial: Trial, turn: int, contents: list[bytes]) -> None:
    with Asker(trial, trial.site.api) as asker:
        for number, data in enumerate(contents):
            put(trial, asker, f"again-{turn}-{number}", data)


def _collect(trial: Trial, asker: Asker) -> None:
    answer = asker.until("collect", "POST", "/v1/collect", json={})
    if expect(trial, "collect", answer, 202):
        _await_end(asker, answer.json()["id"])


def _await_end(asker: Asker, job: str) -> None:
    while _still(asker, [job]):
        time.sleep(0.02)


def collected(trial: Trial) -> dict[str, int]:
    """Collect once, when nothing dies any more: what the job says."""
    with Asker(trial, trial.site.api) as asker:
        job = asker.until("collect", "POST", "/v1/collect", json={}).json()["id"]
        _await_end(asker, job)
        found: dict[str, int] = asker.until("jobs", "GET", f"/v1/jobs/{job}").json()["result"]
        return found

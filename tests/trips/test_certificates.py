"""The certificate from end to end: a real service and worker, a transplant, a replay by `graftery verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from graftery.client.cli import run
from graftery.client.http import Client
from graftery.errors import NotFound
from graftery.spec.wire import JobOut
from tests.support.files import CUT, parts, teacher
from tests.support.service import Service, serving

pytestmark = [pytest.mark.trips, pytest.mark.slow]
QUICK = {"steps": 10, "batch": 8, "sources": ["noise"]}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose store the tests may damage, whose dead workers are soon missed, and that collects at once."""
    hurried = {"lease_s": "2", "heartbeat_s": "0.3", "collect_grace_s": "0"}
    with serving(tmp_path_factory.mktemp("home"), planes="registry,worker", prechecks="0", **hurried) as running:
        yield running


@pytest.fixture(scope="module")
def client(own: Service) -> Iterator[Client]:
    with own.client() as made:
        category, task = parts(seed=1)
        made.push("old", category)
        made.push("shared-is", task)
        made.compose("old-in-shared", "old", "shared-is")
        made.push_teacher("new", teacher(seed=2), cut=CUT)
        yield made


@pytest.fixture(scope="module")
def transplanted(client: Client) -> JobOut:
    return client.wait(client.transplant("new", "shared-is", name="new-in-shared", recipe=QUICK))


def _stored(service: Service, digest: str) -> Path:
    return service.home / "store" / "sha256" / digest[:2] / digest[2:4] / digest


def _flip(path: Path) -> bytes:
    """One bit of the last weight; gives what was there."""
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(before[:-2] + bytes([before[-2] ^ 1]) + before[-1:])
    return before


def test_a_transplant_leaves_a_certificate_of_what_was_there(client: Client, transplanted: JobOut) -> None:
    assert transplanted.result is not None
    assert transplanted.result["certificate"] == {
        "networks": 2,
        "identical": 2,
        "within_tolerance": 0,
        "different": [],
        "first_seen": 2,
        "left_out": 0,
    }, "the network composed by hand, and the teacher's own"
    for ref in ("old-in-shared", "new-is-teacher"):
        found = client.certificate(ref)
        assert found.probes is not None and found.probes.made_by == f"job {transplanted.id}"
        assert [(replay.job, replay.identical) for replay in found.replays] == [(transplanted.id, True)]
    assert client.certificate("new-in-shared").probes is not None


def test_verify_replays_a_network_here(
    own: Service, client: Client, transplanted: JobOut, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)  # not what the worker has: a replay takes the number of the record
    for ref in ("new-in-shared", "old-in-shared:1", "new-is-teacher@default"):
        found = client.verify(ref)
        assert (found.compared, found.identical, found.same) == ("bitwise", True, True), ref
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)
    assert run(["verify", "old-in-shared", "--url", own.url]) == 0
    out = capsys.readouterr().out
    assert out.startswith("old-in-shared:1: the same to the bit\n")
    assert f"by job {transplanted.id}" in out and "after 1 transplants" in out
    assert run(["verify", "old-in-shared", "--url", own.url, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["identical"] is True and document["certificate"]["network"] == "old-in-shared:1"


def test_a_network_without_a_record(own: Service, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    category, task = parts(seed=9)
    client.push("lonely", category)
    client.push("lonely-is", task)
    client.compose("nobody-saw", "lonely", "lonely-is")
    with pytest.raises(NotFound, match="transplant that shares a module"):
        client.verify("nobody-saw")
    assert run(["verify", "lonely", "--url", own.url]) == 1
    assert "error[kind_mismatch]" in capsys.readouterr().err


def test_a_flipped_bit_in_the_store_shouts(
    own: Service, client: Client, transplanted: JobOut, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bit of one weight of a served network's category module, damaged on the disk."""
    old = client.inspect("old")
    path = _stored(own, old.digest)
    before = _flip(path)
    try:
        job = client.wait(client.transplant("new", "shared-is", name="after-damage", recipe=QUICK))
        refused = run(["verify", "old-in-shared", "--url", own.url])
    finally:
        path.write_bytes(before)
    assert job.result is not None
    (different,) = job.result["certificate"]["different"]
    assert different["network"] == "old-in-shared:1" and "damaged" in different["reason"]
    assert job.result["certificate"]["identical"] == job.result["certificate"]["networks"] - 1
    assert "networks_changed" in own.log
    assert (refused, "digest_mismatch" in capsys.readouterr().err) == (1, True)
    assert run(["verify", "old-in-shared", "--url", own.url]) == 0
    assert f"not the same after {job.id}" in capsys.readouterr().out


def test_a_module_that_was_exchanged_with_its_digest_is_found_by_the_replay(
    own: Service,
    client: Client,
    transplanted: JobOut,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What no digest shows: the modules that arrive are sound, and not those that the record was made of."""
    certificate = client.certificate("old-in-shared")
    other = client.certificate("new-is-teacher")
    mixed = certificate.model_copy(update={"parts": {**certificate.parts, "category": other.parts["category"]}})
    monkeypatch.setattr(Client, "certificate", lambda *_: mixed)
    assert run(["verify", "old-in-shared", "--url", own.url]) == 1
    assert "NOT THE SAME: the outputs differ" in capsys.readouterr().out


def test_a_job_whose_worker_is_killed_has_its_certificate(own: Service, client: Client, transplanted: JobOut) -> None:
    recipe = {**QUICK, "steps": 1500, "stop": {"patience": 0}}
    job = client.transplant("new", "shared-is", name="killed", recipe=recipe)
    next(event for event in client.watch(job) if event.data.get("phase") == "train")
    supervisor = psutil.Process(own.process.pid)
    next(part for part in supervisor.children() if part.cmdline()[1:3] == ["-m", "worker"]).kill()
    job = client.wait(job)
    assert (job.attempt, job.result and job.result["certificate"]["different"]) == (2, [])
    assert [replay.job for replay in client.certificate("old-in-shared").replays].count(job.id) == 1


def test_collect_keeps_the_probes(own: Service, client: Client, transplanted: JobOut) -> None:
    probes = client.certificate("new-in-shared").probes
    assert probes is not None
    orphan = _stored(own, "ab" * 32)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"nobody names it")
    client.wait(client.collect())
    assert not orphan.exists(), "the grace time is zero here"
    assert _stored(own, probes.digest).exists()

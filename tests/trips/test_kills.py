"""kill -9 of the worker in the middle of a transplant, at ten random moments: nothing is lost, nothing is there twice."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path

import psutil
import pytest

from graftery.client.http import Client
from graftery.spec.wire import JobEvent, JobOut
from tests.support.files import CUT, parts, teacher
from tests.support.service import Service, serving

pytestmark = [pytest.mark.trips, pytest.mark.slow, pytest.mark.timeout(480)]
KILLS = 6
# It does all of its steps: a run that stops by itself might be over before it is killed.
RECIPE = {"steps": 1500, "batch": 16, "inversion": {"steps": 20, "images": 32}, "stop": {"patience": 0}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    with serving(
        home, planes="registry,worker", prechecks="0", lease_s="2", heartbeat_s="0.3", checkpoint_s="0.2"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with service.client() as made:
        made.push("shared-is", parts(seed=1)[1])
        made.push_teacher("new", teacher(seed=2), cut=CUT)
        yield made


@pytest.fixture(scope="module")
def unbroken(client: Client) -> str:
    """The digest of the adapter of a run that nobody disturbs."""
    client.wait(client.transplant("new", "shared-is", name="unbroken", recipe=RECIPE))
    return client.inspect("unbroken-adapter").digest


def _worker(service: Service) -> psutil.Process:
    parts = psutil.Process(service.process.pid).children()
    return next(part for part in parts if part.cmdline()[1:3] == ["-m", "worker"])


def _killed_after_a_checkpoint(service: Service, client: Client, name: str, delay_s: float) -> JobOut:
    job = client.transplant("new", "shared-is", name=name, recipe=RECIPE)
    # The second phase: a checkpoint of the training, not of the images it trains on.
    events = dropwhile(lambda event: event.data.get("phase") != "train", client.watch(job))
    next(event for event in events if event.type == "checkpoint")
    time.sleep(delay_s)
    _worker(service).kill()
    return client.wait(job)


def _attempts(events: list[JobEvent]) -> list[list[JobEvent]]:
    """The events of each attempt."""
    found: list[list[JobEvent]] = []
    for event in events:
        if event.type == "state" and event.data["state"] == "running":
            found.append([])
        elif found:
            found[-1].append(event)
    return found


def _steps(events: list[JobEvent], type_: str) -> list[int]:
    return [
        int(event.data["step"])
        for event in events
        if event.type == type_ and event.data.get("phase", "train") == "train"
    ]


@pytest.mark.parametrize("attempt", range(KILLS))
def test_a_killed_worker_loses_nothing(service: Service, client: Client, unbroken: str, attempt: int) -> None:
    delay_s = random.Random(attempt).uniform(0, 0.6)
    job = _killed_after_a_checkpoint(service, client, f"killed-{attempt}", delay_s)
    attempts = _attempts(list(client.watch(job)))
    # On a busy machine a lease of two seconds may run out beside: that is one more attempt, and no other adapter.
    assert len(attempts) > 1, "it was over before it was killed: make the recipe longer"
    kept = _steps(attempts[0], "checkpoint")
    trained = [step for later in attempts[1:] for step in _steps(later, "progress")]
    assert kept[-1] > 0
    assert min(trained) >= kept[-1], "the second attempt did not go on where the first one had come to"
    versions = list(client.versions(f"killed-{attempt}-adapter"))
    assert [version.digest for version in versions] == [unbroken]
    assert len(list(client.versions(f"killed-{attempt}"))) == 1


INVERTING = {"steps": 20, "batch": 16, "inversion": {"steps": 600, "images": 16}}


def test_a_worker_that_is_killed_in_the_inversion_goes_on_in_it(service: Service, client: Client) -> None:
    whole = client.wait(client.transplant("new", "shared-is", name="inverted", recipe=INVERTING))
    shutil.rmtree(service.home / "inversions")  # or the images of that one would be taken
    job = client.transplant("new", "shared-is", name="killed-inverting", recipe=INVERTING)
    kept = next(event.data["step"] for event in client.watch(job) if event.type == "checkpoint")
    _worker(service).kill()
    job = client.wait(job)
    attempts = _attempts(list(client.watch(job)))
    assert len(attempts) > 1, "it was over before it was killed: make the inversion longer"
    inverted = [event.data["step"] for event in attempts[1] if event.data.get("phase") == "inversion"]
    assert min(inverted) > kept
    assert client.inspect("killed-inverting-adapter").digest == client.inspect("inverted-adapter").digest
    assert whole.result is not None and job.result is not None
    assert job.result["certificate"]["different"] == []
    assert not job.result["inversion_kept"]
    replayed = client.certificate(whole.result["network"]).replays
    assert [replay.job for replay in replayed].count(job.id) == 1, "all attempts together certify once"


def test_no_process_is_left_behind(service: Service, unbroken: str) -> None:
    """Whoever adopts an orphan: every child of this service's workers is still below its supervisor."""
    family = {part.pid for part in psutil.Process(service.process.pid).children(recursive=True)}
    children = {process.pid for process in psutil.process_iter() if _is_child_of(process, service.home)}
    assert len(children) == 1, "the worker keeps one child warm"
    assert children <= family


def _is_child_of(process: psutil.Process, home: Path) -> bool:
    try:
        return "worker.child" in process.cmdline() and process.environ().get("GRAFTERY_HOME") == str(home)
    except psutil.Error:
        return False

"""What docker-compose.yml describes, as processes behind its proxy: a trip through all of it, and restarts under load.

`make test-cluster` restarts each worker, and each of the others twice; the short form restarts one of each kind.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from torch import Tensor

from graftery import compose, load
from graftery.client.http import Client
from graftery.spec.wire import JobOut
from tests.support import cluster as clusters
from tests.support.cluster import Cluster
from tests.support.files import CUT, parts, samples, teacher
from tests.support.processes import eventually, family, gone

pytestmark = [pytest.mark.trips, pytest.mark.slow]
QUICK = {"steps": 30, "batch": 8, "inversion": {"steps": 10, "images": 16}}
# All of its steps: one that stops by itself might be over before its worker is.
WHOLE = os.environ.get("GRAFTERY_CLUSTER") == "whole"
LONG = {**QUICK, "steps": 9000 if WHOLE else 3000, "stop": {"patience": 0}}
WORKERS = 2 if WHOLE else 1
# Each restart takes seconds: many requests fall into it even so, and leave the processes time to start.
PAUSE_S = 0.01 if WHOLE else 0.05
RESTARTED = 2 * ["api-1", "inference-1", "api-2", "inference-2"] if WHOLE else ["api-1", "inference-1"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    # A drain of a few of the proxy's looks, which are five a second here; no child that no test asks.
    settings = {"drain_s": "1", "poll_s": "1", "checkpoint_s": "0.5", "prechecks": "0", "fast_forms": "off"}
    with clusters.running(folder, **settings) as running:
        everyone = [each for node in running.nodes.values() for each in family(node.process.pid if node.process else 0)]
        yield running
    assert len(everyone) >= 7
    assert gone(everyone), "the end of the cluster is the end of all of it"


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.url) as made:
        made.push("shared-is", parts(seed=1)[1])
        made.push_teacher("new", teacher(seed=2), cut=CUT)
        yield made


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _infer(cluster: Cluster, name: str, images: Tensor) -> Callable[[httpx.Client], httpx.Response]:
    spec = {"name": "input", "datatype": "FP32", "shape": list(images.shape), "data": images.flatten().tolist()}
    return lambda http: http.post(f"{cluster.url}/v2/models/{name}/infer", json={"inputs": [spec]})


def _requests_of(cluster: Cluster, node: str) -> int:
    """How many requests a process has answered, its health aside."""
    text = httpx.get(f"{cluster.nodes[node].at}/metrics").text
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    wanted = [s for s in found if s.name == "graftery_http_requests_total" and "health" not in s.labels["route"]]
    return int(sum(sample.value for sample in wanted))


def test_upload_transplant_infer(cluster: Cluster, client: Client, images: Tensor, tmp_path: Path) -> None:
    job = client.wait(client.transplant("new", "shared-is", name="new-in-shared", recipe=QUICK))
    assert job.state == "succeeded"
    names = ("new", "new-in-shared-adapter", "shared-is")
    local = compose(*(load(client.pull(name, tmp_path)) for name in names))
    for _ in range(4):
        answer = client.infer("new-in-shared", images.numpy())
        np.testing.assert_allclose(answer, local(images).detach().numpy(), atol=1e-5)


def test_the_proxy_asks_all_of_them(cluster: Cluster, client: Client, images: Tensor) -> None:
    before = {name: _requests_of(cluster, name) for name, node in cluster.nodes.items() if node.at}
    with httpx.Client() as http:
        for _ in range(8):
            assert _infer(cluster, "new-is-teacher", images)(http).status_code == 200
            assert http.get(f"{cluster.url}/v1/modules").status_code == 200
    assert all(_requests_of(cluster, name) > count for name, count in before.items()), before


def test_each_plane_is_where_it_should_be(cluster: Cluster) -> None:
    api, inference = cluster.nodes["api-1"].at, cluster.nodes["inference-1"].at
    assert httpx.get(f"{api}/v2").status_code == 404
    assert httpx.get(f"{inference}/v1/modules").status_code == 404
    assert httpx.get(f"{cluster.url}/metrics").status_code == 404, "figures are for inside"


def test_grpc_passes_the_proxy(cluster: Cluster) -> None:
    with grpc.insecure_channel(cluster.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        assert call(b"", timeout=10) == b"\x08\x01", "ready: true"


def test_the_bytes_are_in_the_bucket(cluster: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore
    from obstore.store import S3Store

    for name, value in cluster.nodes["api-1"].environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    bucket = S3Store.from_url("s3://graftery", client_options={"allow_http": True})
    kept = {meta["path"].rpartition("/")[2] for batch in obstore.list(bucket) for meta in batch}
    assert client.inspect("shared-is").digest in kept
    assert not list(cluster.folder.rglob("store/sha256")), "and on no host"


def _slowly(body: bytes, pieces: int = 10, pause_s: float = 0.15) -> Iterator[bytes]:
    """A body that takes longer to come than a process takes to be asked to end."""
    size = -(-len(body) // pieces)
    for start in range(0, len(body), size):
        yield body[start : start + size]
        time.sleep(pause_s)


class _Load:
    """Requests in threads, none of them tried again: what came of each."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.over = threading.Event()
        self._lock = threading.Lock()

    def run(self, what: str, ask: Callable[[httpx.Client, int], httpx.Response]) -> None:
        number = 0
        with httpx.Client(timeout=60) as http:
            while not self.over.is_set():
                number += 1
                try:
                    answer = ask(http, number)
                    outcome = "ok" if answer.is_success else f"{answer.status_code} {answer.text[:200]}"
                except httpx.HTTPError as error:
                    outcome = repr(error)
                with self._lock:
                    self.outcomes[f"{what}: {outcome}"] += 1
                time.sleep(PAUSE_S)


@contextmanager
def _under_load(cluster: Cluster, images: Tensor) -> Iterator[_Load]:
    load, body, infer = _Load(), samples(4), _infer(cluster, "new-is-teacher", images)
    asks: dict[str, Callable[[httpx.Client, int], httpx.Response]] = {
        "read": lambda http, _: http.get(f"{cluster.url}/v1/modules"),
        "upload": lambda http, n: http.put(f"{cluster.url}/v1/samples/load-{time.time_ns()}-{n}", content=body),
        "slow upload": lambda http, n: http.put(f"{cluster.url}/v1/samples/slow-{n}", content=_slowly(body)),
        "infer": lambda http, _: infer(http),
    }
    threads = [threading.Thread(target=load.run, args=(what, ask)) for what, ask in asks.items()]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.over.set()
        for thread in threads:
            thread.join()


def _crashes(job: JobOut, client: Client) -> list[str]:
    events = list(client.watch(job))
    return [str(event.data) for event in events if event.type == "state" and "error" in event.data]


def _worker_of(cluster: Cluster, job: JobOut) -> str:
    pid = int((job.worker or ":0").rpartition(":")[2])
    return next(name for name, node in cluster.nodes.items() if node.process is not None and node.process.pid == pid)


@pytest.mark.timeout(600)
def test_a_rolling_restart_loses_no_request(cluster: Cluster, client: Client, images: Tensor) -> None:
    job = client.transplant("new", "shared-is", name="long", recipe=LONG)
    assert eventually(lambda: client.job(job).checkpoint_step, 60)
    with _under_load(cluster, images) as load:
        for attempt in range(1, WORKERS + 1):
            assert eventually(lambda n=attempt: (client.job(job).state, client.job(job).attempt) == ("running", n))
            cluster.restart(_worker_of(cluster, client.job(job)))
        for name in RESTARTED:
            cluster.restart(name)
        time.sleep(0.5)
    print(dict(load.outcomes))
    assert {outcome.partition(": ")[2] for outcome in load.outcomes} == {"ok"}, load.outcomes
    assert all(load.outcomes[f"{what}: ok"] >= 20 for what in ("read", "upload", "infer")), load.outcomes
    assert load.outcomes["slow upload: ok"] >= 5
    ended = client.wait(job)
    assert ended.state == "succeeded" and ended.attempt == WORKERS + 1, (
        "a worker's end cost a hand-over, and nothing else"
    )
    assert not _crashes(job, client)

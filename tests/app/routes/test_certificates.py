from __future__ import annotations

import hashlib

import pytest
from fastapi.testclient import TestClient

from app.deps import Service
from graftery.spec.certificate import DeviceClass, Replayed
from registry import catalogue, jobs
from tests.support.http import code_of, push_teacher, repr_digest

RECORD = b"what the network answered"
HERE = DeviceClass(device="cpu", model="m", kernels="AVX2", torch="2.13.0", threads=2)
NETWORK = "dog-is-teacher"


@pytest.fixture
def certified(client: TestClient, service: Service) -> str:
    """A network with a record and a replay; gives the job's id."""
    push_teacher(client)
    blob = service.store.put_bytes(RECORD)
    with service.database.transaction() as session:
        network = catalogue.resolve(session, NETWORK)
        job = jobs.submit(session, kind="transplant", request={}, pinned={})
        catalogue.keep_probes(session, network.id, blob, HERE, f"job {job.id}")
        replay = Replayed(compared="bitwise", same=True, identical=True)
        catalogue.keep_replays(session, job.id, {network.id: replay})
        return job.id


def test_a_certificate(client: TestClient, certified: str) -> None:
    found = client.get(f"/v1/versions/{NETWORK}/certificate").json()
    assert (found["network"], found["parts"].keys()) == (f"{NETWORK}:1", {"category", "task"})
    assert client.get(f"/v1/versions/{found['parts']['category']}").json()["ref"] == "dog:1"
    assert found["probes"]["digest"] == hashlib.sha256(RECORD).hexdigest()
    assert found["probes"]["device_class"] == HERE.model_dump()
    (replay,) = found["replays"]
    assert replay.pop("at")
    assert replay == {"job": certified, "compared": "bitwise", "same": True, "identical": True, "reason": None}


def test_the_record_is_a_file(client: TestClient, certified: str) -> None:
    address = f"/v1/versions/{NETWORK}:1/probes"
    response = client.get(address)
    digest = hashlib.sha256(RECORD).hexdigest()
    assert response.content == RECORD
    assert response.headers["etag"] == f'"{digest}"'
    assert response.headers["repr-digest"] == repr_digest(RECORD)
    assert f"{NETWORK}-1.probes.safetensors" in response.headers["content-disposition"]
    part = client.get(address, headers={"Range": "bytes=5-"})
    assert (part.status_code, part.content) == (206, RECORD[5:])
    assert client.get(address, headers={"If-None-Match": response.headers["etag"]}).status_code == 304
    head = client.head(address)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(RECORD)), b"")


def test_a_network_that_no_worker_has_seen(client: TestClient) -> None:
    push_teacher(client)
    found = client.get(f"/v1/versions/{NETWORK}/certificate").json()
    assert (found["probes"], found["replays"]) == (None, [])
    refused = client.get(f"/v1/versions/{NETWORK}/probes")
    assert (refused.status_code, code_of(refused)) == (404, "not_found")
    assert "transplant" in refused.json()["hint"]


@pytest.mark.parametrize("what", ["certificate", "probes"])
def test_only_networks_have_one(client: TestClient, what: str) -> None:
    push_teacher(client)
    refused = client.get(f"/v1/versions/dog/{what}")
    assert (refused.status_code, code_of(refused)) == (409, "kind_mismatch")
    assert code_of(client.get(f"/v1/versions/nothing/{what}")) == "not_found"

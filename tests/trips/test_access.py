"""A service that others can reach: it does not start without a key, asks everybody for one, and tells nobody which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

from graftery.client.http import Client
from graftery.errors import AccessRefused, GrafteryError
from tests.support.files import CUT, parts, teacher
from tests.support.processes import ROOT, eventually
from tests.support.service import Service, serving
from tests.support.world import images

pytestmark = [pytest.mark.trips, pytest.mark.slow]
QUICK = {"sources": ["noise"], "steps": 10}


@dataclass
class Guarded:
    service: Service
    secrets: dict[str, str]
    """Every secret that was ever given, by the key's name; also those that are not taken any more."""

    def client(self, name: str) -> Client:
        return Client(self.service.url, self.secrets[name])

    @property
    def grpc(self) -> str:
        address: str = json.loads((self.service.home / "serve.json").read_text())["grpc"]
        return address


def graftery(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GRAFTERY_")}
    command = [sys.executable, "-m", "graftery.client.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**plain, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def local_key(home: Path, name: str, *options: str) -> str:
    done = graftery("keys", "create", name, *options, "--home", str(home), "--json")
    assert done.returncode == 0, done.stderr
    secret: str = json.loads(done.stdout)["secret"]
    return secret


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("guarded")
    secrets = {"root": local_key(home, "root", "--scope", "admin")}
    settings = {"host": "0.0.0.0", "grpc_port": "0", "log_level": "debug", "keys_s": "0.2", "verifiers": "1"}
    with serving(home, **settings) as running:
        made = Guarded(running, secrets)
        with made.client("root") as root:
            secrets["vision"] = root.create_key("vision", ["push", "transplant"], namespaces=["vision"]).secret
            secrets["asking"] = root.create_key("asking", ["infer"]).secret
        yield made


@pytest.mark.parametrize("access", ["auto", "keys"])
def test_it_does_not_start_without_a_key(tmp_path: Path, access: str) -> None:
    host = "0.0.0.0" if access == "auto" else "127.0.0.1"
    done = graftery("serve", "--home", str(tmp_path), "--port", "0", "--host", host, "--access", access)
    assert done.returncode == 1
    assert "there is no key" in done.stderr
    assert f"graftery keys create NAME --scope admin --home {tmp_path}" in done.stderr
    assert "--access open" in done.stderr
    assert not (tmp_path / "serve.json").exists()


def test_it_starts_where_it_is_told_to(tmp_path: Path) -> None:
    with (
        serving(tmp_path, host="0.0.0.0", access="open", planes="registry", prechecks="0") as service,
        service.client() as client,
    ):
        assert client.health().status == "ok"
        assert [*client.list()] == []


def test_a_team_works_in_its_namespace_and_is_written_down(guarded: Guarded) -> None:
    with guarded.client("vision") as vision, guarded.client("root") as root, guarded.client("asking") as asking:
        pushed = vision.push_teacher("vision.dog", teacher(seed=2), cut=CUT)
        assert pushed.category.created_by == "vision"
        with pytest.raises(AccessRefused) as caught:
            vision.push("audio.dog", parts(seed=2)[0])
        assert caught.value.code == "forbidden"
        job = vision.wait(vision.transplant("vision.dog", "vision.dog-is", name="vision.net", recipe=QUICK))
        assert job.state == "succeeded"
        assert len([*vision.watch(job.id)]) > 2
        vision.alias("vision.net", "stable", 1)
        assert asking.infer("vision.net@stable", images(3)).shape == (3, 1)
        with pytest.raises(AccessRefused):
            vision.infer("vision.net", images(1))
        found = {(row.by, row.action, row.what) for row in root.audit()}
    assert {
        ("vision", "publish", "vision.dog-is:1"),
        ("vision", "transplant", f"job {job.id}"),
        (f"job {job.id}", "publish", "vision.net:1"),
        (f"job {job.id}", "publish", "vision.net-adapter:1"),
        ("vision", "alias", "vision.net@stable"),
        ("root", "key.create", "key vision"),
    } <= found
    assert any(by and by.startswith("local ") and what == "key root" for by, _, what in found)


@pytest.mark.parametrize("path", ["/v1/modules", "/v1/jobs/x/events", "/metrics", "/v2", "/v2/models", "/v1/audit"])
def test_nothing_is_told_without_a_key(guarded: Guarded, path: str) -> None:
    assert httpx.get(guarded.service.url + path).status_code == 401
    assert httpx.get(f"{guarded.service.url}/health/ready").status_code == 200


def test_a_key_that_is_rotated_or_revoked_is_taken_no_more(guarded: Guarded) -> None:
    with guarded.client("root") as root:
        first = root.create_key("passing", ["read"]).secret
        guarded.secrets["passing"] = second = root.rotate_key("passing").secret
        guarded.secrets["passing before"] = first
        assert not _is_taken(guarded, first)
        assert _is_taken(guarded, second)
        root.revoke_key("passing")
        assert eventually(lambda: not _is_taken(guarded, second), within_s=5)


def _is_taken(guarded: Guarded, secret: str) -> bool:
    return httpx.get(f"{guarded.service.url}/v1/modules", headers={"Authorization": f"Bearer {secret}"}).is_success


def _misuse(guarded: Guarded) -> None:
    """Send keys in every way in which something might write them down."""
    url, secret = guarded.service.url, guarded.secrets["root"]
    wrong = secret[:-4] + "zzzz"
    guarded.secrets["wrong"] = wrong
    for header in (f"Bearer {wrong}", f"Basic {secret}", secret, f"Bearer {secret} {secret}"):
        httpx.get(f"{url}/v1/modules", headers={"Authorization": header})
    good = {"Authorization": f"Bearer {secret}"}
    httpx.put(f"{url}/v1/modules/vision.bad", content=b"nothing", headers=good)
    httpx.post(f"{url}/v1/transplants", content=b"{", headers=good | {"Content-Type": "application/json"})
    httpx.put(f"{url}/v1/modules/{secret}", content=b"x", headers=good)
    httpx.get(f"{url}/v1/modules?q={secret}", headers=good)
    httpx.post(f"{url}/v2/models/none/infer", content=b"{", headers=good)
    with triton.InferenceServerClient(guarded.grpc) as client, suppress(Exception):
        client.get_model_metadata("none", headers={"authorization": f"Bearer {wrong}"})
    with grpc.insecure_channel(guarded.grpc) as channel, suppress(grpc.RpcError):
        channel.unary_unary("/inference.GRPCInferenceService/Nothing")(
            b"", metadata=[("authorization", f"Bearer {secret}")]
        )


def test_no_key_is_in_the_logs_or_on_the_disk(guarded: Guarded) -> None:
    """Of a real service with all its parts, at its most talkative; the database and the store too."""
    with guarded.client("asking") as asking, suppress(GrafteryError):
        asking.infer("vision.net", np.zeros((1, 1, 8, 8), np.float32))
    with guarded.client("root") as root:
        root.wait(root.collect())
    _misuse(guarded)
    log = guarded.service.log
    assert "key_refused" in log and "/v2/models/none/infer" in log, "it is the log of what was just done"
    written = {path: path.read_bytes() for path in guarded.service.home.rglob("*") if path.is_file()}
    assert any(b"api_keys" in content for content in written.values()), "the database is among them"
    found: list[Any] = [
        (name, path.name)
        for name, secret in guarded.secrets.items()
        for path, content in written.items()
        if secret[20:].encode() in content
    ]
    assert found == []

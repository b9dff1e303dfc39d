"""Every file that a stranger could send, over HTTP: refused with its code, nothing published, nothing kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.requests.prechecks import Prechecks
from graftery.spec.problems import PROBLEMS
from registry.settings import Settings
from tests.support.hostile import HOSTILE
from tests.support.http import code_of, in_store
from tests.support.verifiers import SharedVerifier

CHUNK_BYTES = 1024**2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def client(_sqlite_template: Path, home: Path, verifier: SharedVerifier) -> Iterator[TestClient]:
    shutil.copy(_sqlite_template, home / "graftery.db")
    app = create_app(Settings(home=home, planes=frozenset({"registry"}), free_bytes=0))
    app.state.service = replace(app.state.service, verifier=verifier, prechecks=Prechecks(app.state.store, None))
    with TestClient(app) as made:
        yield made


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_file_is_refused_and_leaves_nothing(
    client: TestClient, home: Path, tmp_path: Path, name: str
) -> None:
    write, code = HOSTILE[name]
    path = tmp_path / "file.safetensors"
    write(path)
    headers = {"content-length": str(path.stat().st_size)}
    response = client.put("/v1/modules/cat", content=_chunks(path), headers=headers)
    assert code_of(response) == code, response.json()["detail"]
    assert response.status_code == PROBLEMS[code].status
    assert in_store(home) == []
    assert client.get("/v1/modules").json()["items"] == []


@pytest.mark.parametrize("path", ["/v1/samples/cat", "/v1/teachers/cat?cut=features"])
@pytest.mark.parametrize(
    "name", ["duplicate_keys", "pickle", "length_2_62", "truncated_in_transit", "million_empty_tensors"]
)
def test_the_other_doors_are_as_closed(client: TestClient, home: Path, tmp_path: Path, path: str, name: str) -> None:
    write, _ = HOSTILE[name]
    file = tmp_path / "file.safetensors"
    write(file)
    response = client.put(path, content=file.read_bytes())
    assert response.status_code == 422
    assert PROBLEMS[code_of(response)].status == 422
    assert in_store(home) == []
    assert client.get("/v1/modules").json()["items"] == []

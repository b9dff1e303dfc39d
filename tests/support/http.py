"""Short ways to ask the app in tests."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from tests.support import files


def repr_digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def code_of(response: Any) -> str:
    """The code of a refusal, after a look at the rest of the document."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document = response.json()
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["x-request-id"]
    code: str = document["code"]
    return code


def push(client: TestClient, name: str, data: bytes, **params: Any) -> dict[str, Any]:
    """Upload a module file; gives the version."""
    response = client.put(f"/v1/modules/{name}", content=data, params=params)
    assert response.status_code in (200, 201), response.text
    found: dict[str, Any] = response.json()
    return found


def push_parts(client: TestClient, category: str = "cat", task: str = "is-it", **which: Any) -> None:
    """Upload a category module and a task module, without a teacher."""
    f, g = files.parts(**which)
    push(client, category, files.file_bytes(f))
    push(client, task, files.file_bytes(g))


def push_teacher(client: TestClient, name: str = "dog", **which: Any) -> dict[str, Any]:
    data = files.file_bytes(files.teacher(**which))
    response = client.put(f"/v1/teachers/{name}", params={"cut": files.CUT}, content=data)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def push_samples(client: TestClient, name: str, data: bytes) -> dict[str, Any]:
    response = client.put(f"/v1/samples/{name}", content=data)
    assert response.status_code in (200, 201), response.text
    found: dict[str, Any] = response.json()
    return found


def in_store(home: Path) -> list[str]:
    """Every file under the store, published or staged."""
    store = home / "store"
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() and path.name != ".lock")

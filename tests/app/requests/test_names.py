"""A name that is free is told by one look, however many names there are: what is like it is sought for who reads it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from registry.catalogue import find
from tests.support import files
from tests.support.http import code_of, push, push_samples, push_teacher


class Searched(Exception):
    """Thousands of names were loaded and compared."""


@pytest.fixture
def unsearched(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generic network, a teacher that it lacks and samples; from then on no name may be sought by what it is like."""
    push_teacher(client, "all", channels=6, seed=1)
    push_teacher(client, "dog")
    push_samples(client, "few", files.samples(12))
    zoo = {"name": "zoo", "categories": ["all"], "tasks": ["all-is"]}
    assert client.post("/v1/generic", json=zoo).status_code == 201

    def refuse(*_: Any) -> None:
        raise Searched

    monkeypatch.setattr(find, "near", refuse)
    assert client.get("/v1/modules/dgo").status_code == 500


@pytest.mark.usefixtures("unsearched")
def test_under_new_names_nothing_like_them_is_sought(client: TestClient) -> None:
    push(client, "cat", files.file_bytes(files.parts()[0]))
    push_teacher(client, "bird", seed=2)
    push_samples(client, "many", files.samples(14))
    transplanted = client.post("/v1/transplants", json={"name": "dog-here", "category": "dog", "task": "all-is"})
    assert transplanted.status_code == 202, transplanted.text
    grown = client.post("/v1/generic/zoo/grow", json={"category": "dog"})
    assert grown.status_code == 202, grown.text
    asked = {"name": "net", "category": "dog", "task": "dog-is"}
    measured = client.post("/v1/networks", json={**asked, "evaluate_on": "few"})
    # Whether it is there was looked at; here nothing measures it.
    assert (measured.status_code, code_of(measured)) == (503, "unavailable")
    assert client.post("/v1/networks", json=asked).status_code == 201


@pytest.mark.usefixtures("unsearched")
def test_a_name_of_another_kind_is_refused(client: TestClient) -> None:
    response = client.post("/v1/networks", json={"name": "few", "category": "dog", "task": "dog-is"})
    assert (response.status_code, code_of(response)) == (409, "kind_conflict")
    assert "few is of kind samples" in response.json()["detail"]

from __future__ import annotations

import torch
from fastapi.testclient import TestClient
from safetensors.torch import save

from registry.settings import Settings
from tests.support import files
from tests.support.http import code_of, in_store, push_samples


def test_a_sample_set(client: TestClient) -> None:
    version = push_samples(client, "digits", files.samples(12))
    assert (version["ref"], version["kind"]) == ("digits:1", "samples")
    assert version["facts"]["count"] == 12
    assert version["facts"]["labelled"] is True
    assert version["manifest"] is None
    assert push_samples(client, "noise", files.samples(12, False))["facts"]["labelled"] is False


def test_the_same_set_again(client: TestClient) -> None:
    push_samples(client, "digits", files.samples())
    response = client.put("/v1/samples/digits", content=files.samples())
    assert (response.status_code, response.json()["version"]) == (200, 1)


def test_sets_that_are_none(client: TestClient, app_settings: Settings) -> None:
    bad = torch.zeros(3, 1, 8, 8)
    bad[1, 0, 3, 3] = float("nan")
    for tensors in ({"z": torch.zeros(3)}, {"x": bad}, {"x": torch.zeros(3, 2), "y": torch.zeros(4)}):
        response = client.put("/v1/samples/digits", content=save(tensors))
        assert response.status_code == 422
        assert code_of(response) == "samples_invalid"
    assert in_store(app_settings.home) == []

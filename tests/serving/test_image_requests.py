"""Encoded images in requests over HTTP: both forms, what the metadata says, and refusals that harm nobody else."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from fastapi.testclient import TestClient
from tritonclient.utils import InferenceServerException

from serving import encoded
from serving.models import find
from tests.support.pictures import encoded_image, png
from tests.support.world import ANY_SIZE, NETWORK, PHOTO, World


def in_json(*rows: bytes, shape: list[int] | None = None) -> dict[str, Any]:
    data = [base64.b64encode(row).decode() for row in rows]
    return {"inputs": [{"name": "input", "datatype": "BYTES", "shape": shape or [len(rows)], "data": data}]}


def in_binary(*rows: bytes) -> tuple[bytes, dict[str, str]]:
    raw = encoded.to_binary(rows)
    tensor = {"name": "input", "datatype": "BYTES", "shape": [len(rows)]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def ask(client: TestClient, rows: list[bytes], binary: bool, name: str = PHOTO) -> httpx.Response:
    if not binary:
        return client.post(f"/v2/models/{name}/infer", json=in_json(*rows))
    body, headers = in_binary(*rows)
    return client.post(f"/v2/models/{name}/infer", content=body, headers=headers)


def numbers(world: World, rows: list[bytes], name: str = PHOTO) -> Any:
    """What a client would have sent as FP32."""
    from serving.images import decode

    with world.database.read() as session:
        form = find(session, name).input.image
    assert form is not None
    return decode(rows, form, "input")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_images_are_answered_as_their_numbers_are(client: TestClient, world: World, binary: bool, format: str) -> None:
    rows = [encoded_image((40 + n, 30), seed=n, format=format) for n in range(3)]
    response = ask(client, rows, binary)
    assert response.status_code == 200, response.text
    x = numbers(world, rows)
    found = np.array(response.json()["outputs"][0]["data"], np.float32).reshape(3, 2)
    np.testing.assert_allclose(found, world.answer(f"{PHOTO}:1", x), atol=1e-5)
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    same = client.post(f"/v2/models/{PHOTO}/infer", json={"inputs": [tensor]}).json()["outputs"][0]["data"]
    np.testing.assert_allclose(found.ravel(), same, atol=1e-5)


def test_where_sizes_are_free_the_image_keeps_its_own(client: TestClient, world: World) -> None:
    row = encoded_image((33, 21))
    found = ask(client, [row], binary=True, name=ANY_SIZE).json()["outputs"][0]["data"]
    x = numbers(world, [row], ANY_SIZE)
    assert x.shape == (1, 1, 21, 33)
    np.testing.assert_allclose(found, world.answer(f"{ANY_SIZE}:1", x).ravel(), atol=1e-5)


def test_a_batch_dimension_is_allowed(client: TestClient) -> None:
    response = client.post(f"/v2/models/{PHOTO}/infer", json=in_json(encoded_image(), encoded_image(), shape=[2, 1]))
    assert response.status_code == 200


def test_the_metadata_says_both_forms(client: TestClient) -> None:
    (tensor,) = client.get(f"/v2/models/{PHOTO}").json()["inputs"]
    assert (tensor["datatype"], tensor["shape"]) == ("FP32", [-1, 3, 16, 16])
    assert tensor["parameters"]["encoded_images"]["datatype"] == "BYTES"
    assert tensor["parameters"]["encoded_images"]["json"] == "base64"
    assert "encoded_images" not in client.get(f"/v2/models/{NETWORK}").json()["inputs"][0]["parameters"]


def refused(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    return str(response.json()["error"])


@pytest.mark.parametrize("binary", [True, False])
def test_a_wrong_row_is_named(client: TestClient, binary: bool) -> None:
    good = encoded_image()
    assert "input 'input': row 1: " in refused(ask(client, [good, good[:-30], good], binary))
    assert "input 'input': row 0: expected a JPEG or a PNG" in refused(ask(client, [b"hello"], binary))
    assert "at most 33554432 pixels" in refused(ask(client, [good, png(9000, 9000)], binary))
    assert "a batch of at most 256" in refused(ask(client, [b""] * 257, binary))


def test_a_model_that_takes_no_images_says_so(client: TestClient) -> None:
    error = refused(ask(client, [encoded_image()], binary=True, name=NETWORK))
    assert error == "input 'input': expected datatype FP32, got 'BYTES'"
    tensor = {"name": "input", "datatype": "UINT8", "shape": [1, 3, 16, 16], "data": []}
    error = refused(client.post(f"/v2/models/{PHOTO}/infer", json={"inputs": [tensor]}))
    assert "expected datatype FP32, or BYTES for encoded images, got 'UINT8'" in error


def test_others_requests_are_unharmed(client: TestClient) -> None:
    good, bad = encoded_image(), encoded_image()[:-30]
    with ThreadPoolExecutor(4) as threads:
        rows = [[bad] if n % 3 == 0 else [good] for n in range(12)]
        found = list(threads.map(lambda row: ask(client, row, True).status_code, rows))
    assert found == [400 if n % 3 == 0 else 200 for n in range(12)]


def test_tritonclient_sends_images(address: str) -> None:
    rows = np.array([encoded_image(seed=n) for n in range(2)], dtype=object)
    tensor = triton.InferInput("input", [2], "BYTES")
    tensor.set_data_from_numpy(rows)
    with triton.InferenceServerClient(address) as client:
        assert client.infer(PHOTO, [tensor]).as_numpy("is").shape == (2, 2)
        with pytest.raises(InferenceServerException, match="timeout: expected a whole number of microseconds"):
            client.infer(PHOTO, [tensor], timeout=-5)
        assert client.infer(PHOTO, [tensor], timeout=30_000_000).as_numpy("is").shape == (2, 2)

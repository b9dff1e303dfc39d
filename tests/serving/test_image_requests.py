"""Encoded images in requests over HTTP: both forms, what the metadata says, and refusals that harm nobody else."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from fastapi.testclient import TestClient
from tritonclient.utils import InferenceServerException

from serving import encoded, images
from serving.models import find
from tests.support.inference import mounted
from tests.support.pictures import encoded_image, png
from tests.support.world import ANY_SIZE, NETWORK, PHOTO, World
from tests.support.world import images as numbers_of_rows


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


@contextmanager
def decoders_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever image is decoded inside is so only at the end."""
    end, decode = threading.Event(), images.decode

    def held(*args: Any) -> Any:
        end.wait(60)
        return decode(*args)

    monkeypatch.setattr(images, "decode", held)
    try:
        yield
    finally:
        end.set()


def test_images_that_wait_keep_nobody_else_waiting(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    x = numbers_of_rows(1)
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    with ThreadPoolExecutor(52) as threads:
        with decoders_held(monkeypatch):
            asked = [threads.submit(ask, client, [encoded_image()], True) for _ in range(50)]
            time.sleep(0.5)
            live = threads.submit(client.get, "/v2/health/live")
            assert live.result(timeout=5).status_code == 200
            # Nobody has asked it: where its name leads is looked up in a thread.
            other = threads.submit(client.post, f"/v2/models/{NETWORK}:1/infer", json={"inputs": [tensor]})
            assert other.result(timeout=20).status_code == 200
            assert not any(each.done() for each in asked)
        assert {each.result().status_code for each in asked} == {200}


def test_more_images_than_the_queue_holds_are_refused_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    app = mounted(world, world.settings.model_copy(update={"infer_queue": 5}))
    rows = [encoded_image()]
    with TestClient(app) as client, ThreadPoolExecutor(8) as threads:
        with decoders_held(monkeypatch):
            asked = [threads.submit(ask, client, rows, True) for _ in range(5)]
            deadline = time.monotonic() + 20
            while app.state.serving.decoding.rows < 5 and time.monotonic() < deadline:
                time.sleep(0.01)
            response = threads.submit(ask, client, rows, True).result(timeout=5)
            assert "5 rows wait for their images to be decoded already" in refused(response, 503)
            assert response.headers["retry-after"] == "1"
        assert {each.result().status_code for each in asked} == {200}


def test_tritonclient_sends_images(address: str) -> None:
    rows = np.array([encoded_image(seed=n) for n in range(2)], dtype=object)
    tensor = triton.InferInput("input", [2], "BYTES")
    tensor.set_data_from_numpy(rows)
    with triton.InferenceServerClient(address) as client:
        assert client.infer(PHOTO, [tensor]).as_numpy("is").shape == (2, 2)
        with pytest.raises(InferenceServerException, match="timeout: expected a whole number of microseconds"):
            client.infer(PHOTO, [tensor], timeout=-5)
        assert client.infer(PHOTO, [tensor], timeout=30_000_000).as_numpy("is").shape == (2, 2)

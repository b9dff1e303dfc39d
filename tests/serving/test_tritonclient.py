"""Unmodified tritonclient against a real server: the promise that existing clients work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.support.world import NETWORK, World, images


@pytest.fixture
def triton_client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address, concurrency=4) as made:
        yield made


def inputs(x: Any, binary: bool = True, name: str = "input") -> list[triton.InferInput]:
    made = triton.InferInput(name, list(x.shape), "FP32")
    made.set_data_from_numpy(x, binary_data=binary)
    return [made]


def test_the_server_says_what_it_is(triton_client: triton.InferenceServerClient) -> None:
    assert triton_client.is_server_live() and triton_client.is_server_ready()
    found = triton_client.get_server_metadata()
    assert found["name"] == "graftery" and "binary_tensor_data" in found["extensions"]


def test_the_model_says_what_it_is(triton_client: triton.InferenceServerClient) -> None:
    assert triton_client.is_model_ready(NETWORK) and triton_client.is_model_ready(NETWORK, "1")
    assert not triton_client.is_model_ready("nope") and not triton_client.is_model_ready(NETWORK, "9")
    found = triton_client.get_model_metadata(NETWORK)
    assert found["inputs"][0]["shape"] == [-1, 1, 8, 8] and found["versions"] == ["1", "2"]
    assert triton_client.get_model_metadata(NETWORK, "1")["versions"] == ["1"]
    config = triton_client.get_model_config(NETWORK)
    assert config["max_batch_size"] == 256
    assert config["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": [1, 8, 8]}]
    index = triton_client.get_model_repository_index()
    assert {"name": NETWORK, "version": "2", "state": "READY", "reason": ""} in index


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("batch", [1, 5])
def test_answers_in_every_form(
    triton_client: triton.InferenceServerClient,
    live_world: World,
    binary_in: bool,
    binary_out: bool | None,
    batch: int,
) -> None:
    x = images(batch, seed=batch)
    outputs = None if binary_out is None else [triton.InferRequestedOutput("is", binary_data=binary_out)]
    found = triton_client.infer(NETWORK, inputs(x, binary_in), outputs=outputs, request_id="7")
    np.testing.assert_allclose(found.as_numpy("is"), live_world.answer(f"{NETWORK}:2", x), atol=1e-5)
    assert found.get_response()["id"] == "7" and found.get_response()["model_version"] == "2"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("batch", [1, 256])
def test_packed_both_ways(
    triton_client: triton.InferenceServerClient, live_world: World, algorithm: str, binary: bool, batch: int
) -> None:
    x = images(batch)
    outputs = [triton.InferRequestedOutput("is", binary_data=binary)]
    found = triton_client.infer(
        NETWORK,
        inputs(x, binary),
        outputs=outputs,
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_allclose(found.as_numpy("is"), live_world.answer(f"{NETWORK}:2", x), atol=1e-5)


@pytest.mark.parametrize(("name", "version"), [(NETWORK, "1"), (f"{NETWORK}@stable", ""), (f"{NETWORK}:1", "")])
def test_versions_and_aliases(
    triton_client: triton.InferenceServerClient, live_world: World, name: str, version: str
) -> None:
    x = images(2)
    found = triton_client.infer(name, inputs(x), model_version=version)
    np.testing.assert_allclose(found.as_numpy("is"), live_world.answer(f"{NETWORK}:1", x), atol=1e-5)
    assert triton_client.is_model_ready(name, version)


def test_a_category_gives_the_outputs_of_its_networks(
    triton_client: triton.InferenceServerClient, live_world: World
) -> None:
    x = images(2)
    found = triton_client.infer("eight", inputs(x))
    np.testing.assert_allclose(found.as_numpy(NETWORK), live_world.answer(f"{NETWORK}:2", x), atol=1e-5)


def test_many_at_once_get_their_own_answers(triton_client: triton.InferenceServerClient, live_world: World) -> None:
    xs = [images(1 + n % 3, seed=n) for n in range(24)]
    calls = [triton_client.async_infer(NETWORK, inputs(x), request_id=str(n)) for n, x in enumerate(xs)]
    for n, (call, x) in enumerate(zip(calls, xs, strict=True)):
        found = call.get_result(timeout=30)
        assert found.get_response()["id"] == str(n)
        np.testing.assert_allclose(found.as_numpy("is"), live_world.answer(f"{NETWORK}:2", x), atol=1e-5)


def test_a_body_made_by_hand_is_sent_and_read(triton_client: triton.InferenceServerClient, address: str) -> None:
    x = images(1)
    body, length = triton.InferenceServerClient.generate_request_body(inputs(x))
    assert length is not None and len(body) == length + x.nbytes
    with urlopen(f"http://{address}/v2/models/{NETWORK}") as response:
        assert json.load(response)["name"] == NETWORK


def test_statistics(triton_client: triton.InferenceServerClient) -> None:
    def count() -> int:
        stats = triton_client.get_inference_statistics(NETWORK, "2")["model_stats"]
        found: int = stats[0]["inference_count"]
        return found

    before = count()
    triton_client.infer(NETWORK, inputs(images(4)), model_version="2")
    assert count() == before + 4
    names = {(s["name"], s["version"]) for s in triton_client.get_inference_statistics()["model_stats"]}
    assert (NETWORK, "2") in names


def test_load_and_unload(triton_client: triton.InferenceServerClient) -> None:
    triton_client.load_model("eight-teacher")
    assert triton_client.is_model_ready("eight-teacher")
    triton_client.unload_model("eight-teacher")
    assert not triton_client.is_model_ready("eight-teacher")
    with pytest.raises(InferenceServerException, match="eight-teacher:1 was unloaded") as caught:
        triton_client.infer("eight-teacher", inputs(images(1)))
    assert caught.value.status() == "503"
    triton_client.load_model("eight-teacher")
    assert triton_client.infer("eight-teacher", inputs(images(1))).as_numpy("is").shape == (1, 1)


def test_load_with_a_configuration_is_refused(triton_client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="load takes no parameters"):
        triton_client.load_model(NETWORK, config="{}")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.infer("eight-in-evn", inputs(images(1))), f"There is no module named.*{NETWORK}"),
        (lambda c: c.infer(NETWORK, inputs(images(1), name="image")), "input 'image': the model has no such input"),
        (lambda c: c.infer(NETWORK, inputs(images(1)[:, :, :4])), r"expected shape \[N, 1, 8, 8\].*got \[1, 1, 4, 8\]"),
        (lambda c: c.infer(NETWORK, inputs(images(257))), "a batch of at most 256, got 257"),
        (lambda c: c.infer(NETWORK, inputs(images(1) * np.float32(np.nan))), "expected finite FP32"),
        (lambda c: c.infer(NETWORK, inputs(images(1)), model_version="9"), f"no version {NETWORK}:9"),
        (lambda c: c.infer(NETWORK, inputs(images(1)), outputs=[triton.InferRequestedOutput("no")]), "it has 'is'"),
        (
            lambda c: c.infer(NETWORK, inputs(images(1)), outputs=[triton.InferRequestedOutput("is", class_count=2)]),
            "classification extension is not supported",
        ),
        (lambda c: c.get_model_metadata("even-is"), "of kind task"),
        (lambda c: c.get_system_shared_memory_status(), "there is no path"),
    ],
)
def test_errors_are_readable(triton_client: triton.InferenceServerClient, call: Any, message: str) -> None:
    with pytest.raises(InferenceServerException, match=message) as caught:
        call(triton_client)
    assert caught.value.status() in {"400", "404"}

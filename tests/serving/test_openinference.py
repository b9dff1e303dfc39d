"""The routes under /v2, asked as any HTTP client would."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from registry import catalogue
from serving import joint, openinference, parts, protocol
from serving.desk import PARSERS
from tests.support.inference import mounted
from tests.support.world import NETWORK, World, images

INFER = f"/v2/models/{NETWORK}/infer"


def question(x: Any = None, **more: Any) -> dict[str, Any]:
    x = images(2) if x is None else x
    return {
        "inputs": [{"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}],
        **more,
    }


def answer(response: httpx.Response) -> np.ndarray[Any, Any]:
    assert response.status_code == 200, response.text
    output = response.json()["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    text: str = response.json()["error"]
    return text


def binary_request(x: np.ndarray[Any, Any], **more: Any) -> tuple[bytes, dict[str, str]]:
    entry = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [entry], **more}).encode()
    return head + x.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def test_json_answers_equal_the_local_composition(client: TestClient, world: World) -> None:
    response = client.post(INFER, json=question(id="42"))
    np.testing.assert_allclose(answer(response), world.answer(f"{NETWORK}:2", images(2)), atol=1e-5)
    document = response.json()
    assert document["model_name"] == NETWORK and document["model_version"] == "2" and document["id"] == "42"
    assert response.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        f"/v2/models/{NETWORK}/versions/1",
        f"/v2/models/{NETWORK}%40stable",
        f"/v2/models/{NETWORK}@stable",
        f"/v2/models/{NETWORK}:1",
        f"/v2/models/{NETWORK}%3A1",
    ],
)
def test_versions_and_aliases(client: TestClient, world: World, path: str) -> None:
    response = client.post(f"{path}/infer", json=question())
    np.testing.assert_allclose(answer(response), world.answer(f"{NETWORK}:1", images(2)), atol=1e-5)
    assert response.json()["model_version"] == "1"
    assert client.get(f"{path}/ready").json() == {"name": NETWORK, "ready": True}
    assert client.get(path).json()["versions"] == ["1"]


def test_binary_answers_are_the_same_bytes(client: TestClient, world: World) -> None:
    x = images(3)
    body, headers = binary_request(x, parameters={"binary_data_output": True})
    response = client.post(INFER, content=body, headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    document = json.loads(response.content[:length])
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert response.content[length:] == world.answer(f"{NETWORK}:2", x).tobytes()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_packed_requests_and_answers(client: TestClient, world: World, encoding: str) -> None:
    x = images(200)
    body, headers = binary_request(x)
    packed = (gzip.compress if encoding == "gzip" else zlib.compress)(body)
    headers |= {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    response = client.post(INFER, content=packed, headers=headers)
    assert response.headers["content-encoding"] == encoding
    np.testing.assert_allclose(answer(response), world.answer(f"{NETWORK}:2", x), atol=1e-5)


def test_short_answers_are_not_packed(client: TestClient) -> None:
    response = client.post(INFER, json=question(), headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in response.headers and response.headers["vary"] == "Accept-Encoding"


BAD: list[tuple[Any, str]] = [
    ("{", "JSON cannot be read"),
    ("", "JSON cannot be read"),
    ({}, "inputs: Field required"),
    ({"inputs": []}, "inputs"),
    ({"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": [1]}]}, "expected 'input'"),
    (question() | {"outputs": [{"name": "no"}]}, "output 'no': the model has no such output; it has 'is'"),
    (question() | {"outputs": [{"name": "is", "parameters": {"classification": 1}}]}, "classification"),
    (question(np.full((1, 1, 8, 8), 1e39)), "input 'input': expected finite FP32"),
    (question(np.zeros((1, 3, 8, 8))), "input 'input': expected shape [N, 1, 8, 8]"),
    (question(np.zeros((257, 1, 8, 8))), "a batch of at most 256, got 257"),
    ('{"inputs": [{"name": "input", "shape": [1,1,8,8], "datatype": "FP32", "data": [NaN]}]}', "NaN is not JSON"),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_bad_requests_are_400_and_say_why(client: TestClient, body: Any, message: str) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    assert message in error(client.post(INFER, content=content), 400)


def test_nan_and_inf_in_bytes_are_refused(client: TestClient) -> None:
    for value in (np.nan, np.inf):
        x = images(1)
        x[0, 0, 3, 3] = value
        body, headers = binary_request(x)
        assert "expected finite FP32 numbers" in error(client.post(INFER, content=body, headers=headers), 400)


def test_an_answer_that_json_cannot_hold(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    run = joint.run

    def overflowing(*args: Any) -> Any:
        outputs, took = run(*args)
        outputs[0]["is"][0] = np.inf
        return outputs, took

    monkeypatch.setattr(joint, "run", overflowing)
    body, headers = binary_request(images(1))
    text = error(client.post(INFER, content=body, headers=headers), 400)
    assert "output 'is': holds NaN or Inf" in text
    body, headers = binary_request(images(1), parameters={"binary_data_output": True})
    assert client.post(INFER, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/eight-in-evn", 404, NETWORK),
        ("POST", "/v2/models/eight-in-evn/infer", 404, NETWORK),
        ("GET", "/v2/models/even-is", 404, "kind task"),
        ("GET", f"/v2/models/{NETWORK}/versions/9", 404, f"{NETWORK}:2"),
        ("GET", f"/v2/models/{NETWORK}/versions/x/ready", 400, "a version is a number"),
        ("POST", f"/v2/models/{NETWORK}@stable/versions/1/infer", 400, "already says which version"),
        ("GET", "/v2/models/a%2Fb", 404, "/v2/models/a/b"),
        ("GET", "/v2/models/%20", 404, "not a reference"),
        ("GET", "/v2/nothing/here", 404, "/v2/nothing/here"),
        ("GET", "/v2/", 404, "/v2/"),
        ("POST", "/v2/systemsharedmemory/region/x/register", 404, "there is no path"),
        ("POST", "/v2", 405, "it takes GET"),
        ("GET", INFER, 405, "it takes POST"),
        ("DELETE", f"/v2/models/{NETWORK}", 405, "it takes GET"),
        ("PATCH", "/v2/repository/index", 405, "it takes POST"),
        ("BREW", "/v2/health/live", 405, "does not take BREW"),
        ("POST", "/v2/repository/models/nope/load", 404, "nope"),
        ("POST", "/v2/repository/models/nope/unload", 404, "nope"),
        ("GET", "/v2/models/nope/stats", 404, "nope"),
        ("GET", "/v2/models/nope/config", 404, "nope"),
    ],
)
def test_errors_of_every_kind_are_the_protocols(
    client: TestClient, method: str, path: str, status: int, message: str
) -> None:
    response = client.request(method, path)
    assert message in error(response, status)
    assert ("allow" in response.headers) == (status == 405)


def test_errors_stay_the_protocols_in_an_app_with_other_handlers(world: World) -> None:
    app = FastAPI()
    for kind in (HTTPException, Exception):
        app.exception_handler(kind)(lambda _request, _error: Response("theirs", 418))
    openinference.mount(app, world.settings, world.database, world.store)

    @app.get("/boom")
    def boom(_request: Request) -> None:
        raise ZeroDivisionError

    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/boom").status_code == 418 and client.get("/elsewhere").status_code == 418
        error(client.get("/v2/nothing"), 404)
        error(client.put("/v2"), 405)
        app.state.serving.metadata = None
        assert "an error that it does not know" in error(client.get(f"/v2/models/{NETWORK}"), 500)


@pytest.mark.parametrize("how", ["stated", "streamed", "packed"])
def test_a_body_over_the_limit_is_413(world: World, how: str) -> None:
    settings = world.settings.model_copy(update={"infer_body_bytes": 10_000})
    app = mounted(world, settings)
    body = json.dumps(question() | {"padding": "x" * 20_000}).encode()
    kwargs: dict[str, Any] = {
        "stated": {"content": body},
        "streamed": {"content": iter([body[:6000], body[6000:]])},
        "packed": {"content": gzip.compress(body), "headers": {"Content-Encoding": "gzip"}},
    }[how]
    with TestClient(app) as client:
        assert "over the limit of 10000 bytes" in error(client.post(INFER, **kwargs), 413)
        assert client.post(INFER, json=question(images(1))).status_code == 200


def test_large_bodies_that_wait_keep_nobody_else_waiting(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, end, x = protocol.parse, threading.Event(), images(1)
    held: list[int] = []

    def slow(body: bytes, header_length: str | None) -> Any:
        if b"large" in body:
            held.append(1)
            end.wait(60)
        return parse(body, header_length)

    monkeypatch.setattr(protocol, "parse", slow)
    packed = gzip.compress(json.dumps(question(x, id="large")).encode())
    ask = partial(client.post, f"/v2/models/{NETWORK}/infer", content=packed, headers={"Content-Encoding": "gzip"})
    with ThreadPoolExecutor(52) as threads:
        asked = [threads.submit(ask) for _ in range(50)]
        try:
            time.sleep(0.5)
            other = threads.submit(client.post, f"/v2/models/{NETWORK}:1/infer", json=question(x))
            assert other.result(timeout=20).status_code == 200
            assert len(held) == PARSERS
        finally:
            end.set()
        assert {each.result().status_code for each in asked} == {200}


def test_an_unknown_packing_is_415(client: TestClient) -> None:
    assert "gzip or deflate" in error(client.post(INFER, content=b"x", headers={"Content-Encoding": "br"}), 415)


def test_a_moved_alias_is_seen_at_once(client: TestClient, world: World) -> None:
    for number in ("2", "1", "2"):
        with world.database.transaction() as session:
            catalogue.set_alias(session, NETWORK, "stable", int(number))
        document = client.post(f"/v2/models/{NETWORK}%40stable/infer", json=question()).json()
        assert document["model_version"] == number


def test_a_category_answers_for_all_its_networks(client: TestClient, world: World) -> None:
    document = client.get("/v2/models/eight").json()
    assert [output["name"] for output in document["outputs"]] == [NETWORK]
    found = answer(client.post("/v2/models/eight/infer", json=question()))
    np.testing.assert_allclose(found, world.answer(f"{NETWORK}:2", images(2)), atol=1e-5)


def _resident(app: FastAPI) -> int:
    return len(app.state.serving.pool.residents())


def test_parts_are_shared_and_unload_gives_them_back(app: FastAPI, client: TestClient) -> None:
    for number in (1, 2):
        client.post(f"/v2/models/{NETWORK}/versions/{number}/infer", json=question())
    assert _resident(app) == 4  # f and g once, two adapters
    state = client.post(f"/v2/repository/models/{NETWORK}:1/unload")
    assert state.json() == {"name": NETWORK, "version": "1", "state": "UNAVAILABLE"}
    assert _resident(app) == 3
    client.post(f"/v2/repository/models/{NETWORK}/unload")
    assert _resident(app) == 0 and app.state.serving.pool.size_bytes == 0


def test_an_unloaded_model_is_not_ready_until_it_is_loaded(client: TestClient) -> None:
    client.post(f"/v2/repository/models/{NETWORK}/unload")
    response = client.post(INFER, json=question())
    assert f"POST /v2/repository/models/{NETWORK}:2/load" in error(response, 503)
    assert int(response.headers["retry-after"]) >= 1
    assert "was unloaded" in error(client.get(f"/v2/models/{NETWORK}/ready"), 503)
    index = {(e["name"], e["version"]): e for e in client.post("/v2/repository/index").json()}
    assert index[NETWORK, "2"]["state"] == "UNAVAILABLE" and index[NETWORK, "1"]["state"] == "READY"
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert (NETWORK, "2") not in {(e["name"], e["version"]) for e in ready} and len(ready) == len(index) - 1
    assert client.post(f"/v2/repository/models/{NETWORK}/load").json()["state"] == "READY"
    assert client.post(INFER, json=question()).status_code == 200


def test_load_brings_a_model_into_memory(app: FastAPI, client: TestClient) -> None:
    assert _resident(app) == 0
    client.post(f"/v2/repository/models/{NETWORK}/load", json={})
    assert _resident(app) == 3


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("index", "[]", "no object"),
        ("index", "{", "cannot be read"),
        ("index", '{"ready": 1}', "expected true or false"),
        (f"models/{NETWORK}/load", '{"parameters": {"config": "{}"}}', "takes no parameters"),
    ],
)
def test_bad_options_of_the_repository(client: TestClient, path: str, body: str, message: str) -> None:
    assert message in error(client.post(f"/v2/repository/{path}", content=body), 400)


def test_damaged_bytes_are_503_with_the_cause(client: TestClient, world: World) -> None:
    with world.database.read() as session:
        digest = catalogue.network_parts(session, catalogue.resolve(session, NETWORK)).category.digest
    path = world.store.local_path(digest)
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "damaged" in error(client.post(INFER, json=question()), 503)
    assert "damaged" in error(client.get(f"/v2/models/{NETWORK}/ready"), 503)
    index = {(e["name"], e["version"]): e for e in client.post("/v2/repository/index").json()}
    assert index[NETWORK, "2"]["state"] == "UNAVAILABLE" and "damaged" in index[NETWORK, "2"]["reason"]
    path.unlink()
    assert "no bytes with sha256" in error(client.post(INFER, json=question()), 503)
    assert "no bytes with sha256" in error(client.get(f"/v2/models/{NETWORK}/ready"), 503)
    path.write_bytes(good)
    assert client.post(INFER, json=question()).status_code == 200
    assert client.get(f"/v2/models/{NETWORK}/ready").status_code == 200


def test_a_model_over_the_pools_budget_is_503_with_the_sizes(world: World) -> None:
    app = mounted(world, world.settings.model_copy(update={"pool_bytes": 1000}))
    with TestClient(app) as client:
        assert "the pool holds 1000" in error(client.post(INFER, json=question()), 503)


def test_a_full_queue_is_503_with_retry_after(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    app = mounted(world, world.settings.model_copy(update={"infer_queue": 2}))
    release, run = threading.Event(), joint.run

    def slow(*args: Any) -> Any:
        assert release.wait(20)
        return run(*args)

    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.post(f"/v2/repository/models/{NETWORK}/load")
            monkeypatch.setattr(joint, "run", slow)
            one_row = question(images(1))
            tasks = [asyncio.create_task(client.post(INFER, json=one_row)) for _ in range(5)]
            await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            while sum(task.done() for task in tasks) < 3:
                await asyncio.sleep(0.01)
            assert app.state.serving.batcher.requests == 2
            release.set()
            return list(await asyncio.gather(*tasks))

    found = asyncio.run(main())
    assert sorted(response.status_code for response in found) == [200, 200, 503, 503, 503]
    refused = next(response for response in found if response.status_code == 503)
    assert "2 rows wait already, the queue holds 2" in error(refused, 503)
    assert int(refused.headers["retry-after"]) >= 1
    app.state.serving.close()


def test_statistics_in_tritons_form(client: TestClient) -> None:
    client.post(INFER, json=question(images(3)))
    client.post(INFER, json=question(images(3)))
    client.post(INFER, content="{")
    (found,) = client.get(f"/v2/models/{NETWORK}/stats").json()["model_stats"]
    assert found["name"] == NETWORK and found["version"] == "2"
    assert found["inference_count"] == 6 and found["execution_count"] == 2
    assert found["inference_stats"]["success"]["count"] == 2 and found["inference_stats"]["fail"]["count"] == 1
    steps = ("queue", "compute_input", "compute_infer", "compute_output")
    assert all(found["inference_stats"][step]["ns"] > 0 for step in steps)
    assert sum(found["inference_stats"][step]["ns"] for step in steps) <= found["inference_stats"]["success"]["ns"]
    assert found["batch_stats"][0]["batch_size"] == 3
    assert found["memory_usage"][0]["byte_size"] > 0
    client.post(f"/v2/models/{NETWORK}/versions/1/infer", json=question())
    both = client.get(f"/v2/models/{NETWORK}/stats").json()["model_stats"]
    assert [entry["version"] for entry in both] == ["1", "2"]
    one = client.get(f"/v2/models/{NETWORK}/versions/1/stats").json()["model_stats"]
    assert [entry["version"] for entry in one] == ["1"]
    assert client.get("/v2/models/stats").json()["model_stats"] == both


def test_prometheus_sees_the_plane_while_the_app_runs(app: FastAPI) -> None:
    from prometheus_client import REGISTRY, generate_latest

    with TestClient(app) as client:
        client.post(INFER, json=question())
        text = generate_latest(REGISTRY).decode()
        assert f'nv_inference_count{{model="{NETWORK}",version="2"}} 2.0' in text
        ours = [part.digest for part in app.state.serving.pool.residents()]
        assert len(ours) == 3
        assert all(f'graftery_resident_module_bytes{{digest="{digest}",form="eager"}}' in text for digest in ours)
        assert app.state.serving.collector in REGISTRY._collector_to_names
    assert app.state.serving.collector not in REGISTRY._collector_to_names


def test_metadata_says_what_the_numbers_mean(client: TestClient) -> None:
    document = client.get(f"/v2/models/{NETWORK}").json()
    assert document["versions"] == ["1", "2"]
    assert document["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8], "parameters": {}}]
    (output,) = document["outputs"]
    assert output["shape"] == [-1, 1] and output["parameters"] == {"semantics": "classification"}


def test_openapi_has_the_plane_and_its_references_lead_somewhere(app: FastAPI) -> None:
    document = app.openapi()
    assert "/v2/models/{name}/infer" in document["paths"]
    text = json.dumps(document)
    for part in text.split('"$ref": "')[1:]:
        place: Any = document
        for key in part.split('"')[0].removeprefix("#/").split("/"):
            place = place[key]
    operation = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert set(operation["responses"]) == {"200", "400", "404", "413", "415", "500", "503", "504", "default"}
    assert "application/octet-stream" in operation["responses"]["200"]["content"]
    assert not any("{rest" in path for path in document["paths"])


def test_the_first_request_after_a_load_finds_code_and_threads_warm(app: FastAPI, client: TestClient) -> None:
    assert client.post(f"/v2/repository/models/{NETWORK}/load").status_code == 200
    assert app.state.serving.batcher.seen.runs >= 1  # zeros, on the way of every request
    (found,) = client.get(f"/v2/models/{NETWORK}/stats").json()["model_stats"]
    assert found["inference_count"] == 0  # nobody asked


def test_one_request_is_answered_while_another_model_is_being_loaded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = mounted(world, world.settings.model_copy(update={"infer_queue": 4}))
    with world.database.read() as session:
        slow_digest = catalogue.network_parts(session, catalogue.resolve(session, "eight-teacher")).task.digest
    release, load = threading.Event(), parts.load

    def slow_load(store: Any, digest: str, device: Any) -> Any:
        assert digest != slow_digest or release.wait(20)
        return load(store, digest, device)

    monkeypatch.setattr(parts, "load", slow_load)

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.post(f"/v2/repository/models/{NETWORK}/load")).status_code == 200
            waiting = [
                asyncio.create_task(client.post("/v2/models/eight-teacher/infer", json=question(images(1))))
                for _ in range(10)
            ]
            while sum(task.done() for task in waiting) < 6:
                await asyncio.sleep(0.01)
            response = await client.post(INFER, json=question())
            assert response.status_code == 200 and sum(task.done() for task in waiting) == 6
            release.set()
            found = await asyncio.gather(*waiting)
            assert sorted(response.status_code for response in found) == [200] * 4 + [503] * 6
            refused = next(response for response in found if response.status_code == 503)
            assert "4 rows wait for networks to be loaded already" in error(refused, 503)

    asyncio.run(main())
    app.state.serving.close()

"""Unmodified tritonclient.grpc against a real server."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tritonclient.utils import InferenceServerException

from graftery.errors import Unavailable
from serving import joint
from serving.grpc import messages
from tests.support.inference import mounted
from tests.support.pictures import encoded_image
from tests.support.processes import eventually
from tests.support.world import NETWORK, PHOTO, World, images


@pytest.fixture
def client(grpc_address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(grpc_address) as made:
        yield made


@pytest.fixture
def channel(grpc_address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(grpc_address) as made:
        yield made


def inputs(x: Any, name: str = "input", datatype: str = "FP32") -> list[triton.InferInput]:
    made = triton.InferInput(name, list(x.shape), datatype)
    made.set_data_from_numpy(x)
    return [made]


def call(channel: grpc.Channel, name: str, request: Any, **options: Any) -> Any:
    method = messages.methods()[name]
    stub = channel.unary_unary(
        f"/{messages.SERVICE}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages.message(method.output_type.name).FromString,
    )
    return stub(request, timeout=options.pop("timeout", 60), **options)


def typed(x: Any, **more: Any) -> Any:
    request = messages.message("ModelInferRequest")(model_name=NETWORK, **more)
    tensor = request.inputs.add(name="input", datatype="FP32", shape=x.shape)
    tensor.contents.fp32_contents.extend(x.ravel().tolist())
    return request


def test_the_server_says_what_it_is(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    found = client.get_server_metadata()
    assert found.name == "graftery" and "statistics" in found.extensions


def test_the_model_says_what_it_is(client: triton.InferenceServerClient) -> None:
    assert client.is_model_ready(NETWORK) and client.is_model_ready(NETWORK, "1")
    found = client.get_model_metadata(NETWORK, as_json=True)
    assert found["versions"] == ["1", "2"]
    assert found["inputs"] == [{"name": "input", "datatype": "FP32", "shape": ["-1", "1", "8", "8"]}]
    config = client.get_model_config(NETWORK).config
    assert config.max_batch_size == 256 and config.input[0].dims == [1, 8, 8]
    assert config.input[0].data_type == 11 and list(config.version_policy.specific.versions) == [1, 2]
    index = client.get_model_repository_index(as_json=True)["models"]
    assert {"name": NETWORK, "version": "2", "state": "READY"} in index


@pytest.mark.parametrize("batch", [1, 5, 256])
@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_answers_equal_the_local_net(
    client: triton.InferenceServerClient, live_world: World, batch: int, packing: str | None
) -> None:
    x = images(batch, seed=batch)
    found = client.infer(NETWORK, inputs(x), request_id="7", compression_algorithm=packing)
    np.testing.assert_allclose(found.as_numpy("is"), live_world.answer(f"{NETWORK}:2", x), atol=1e-5)
    assert found.get_response().id == "7" and found.get_response().model_version == "2"


@pytest.mark.parametrize(("name", "version"), [(NETWORK, "1"), (f"{NETWORK}@stable", ""), (f"{NETWORK}:1", "")])
def test_versions_and_aliases(client: triton.InferenceServerClient, live_world: World, name: str, version: str) -> None:
    x = images(2)
    found = client.infer(name, inputs(x), model_version=version)
    np.testing.assert_allclose(found.as_numpy("is"), live_world.answer(f"{NETWORK}:1", x), atol=1e-5)


def test_typed_contents_are_answered_by_typed_contents(channel: grpc.Channel, live_world: World) -> None:
    x = images(3)
    found = call(channel, "ModelInfer", typed(x, id="9"))
    assert found.id == "9" and not found.raw_output_contents and list(found.outputs[0].shape) == [3, 1]
    values = np.array(found.outputs[0].contents.fp32_contents, np.float32).reshape(3, 1)
    np.testing.assert_allclose(values, live_world.answer(f"{NETWORK}:2", x), atol=1e-5)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_encoded_images(client: triton.InferenceServerClient, format: str) -> None:
    rows = np.array([encoded_image(size=(30, 20), seed=n, format=format) for n in range(3)], dtype=object)
    assert client.infer(PHOTO, inputs(rows, datatype="BYTES")).as_numpy("is").shape == (3, 2)
    rows[1] = rows[1][:-40]
    with pytest.raises(InferenceServerException, match="input 'input': row 1: ") as caught:
        client.infer(PHOTO, inputs(rows, datatype="BYTES"))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_stream_is_answered_in_order_and_outlives_a_refusal(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for n in range(4):
        client.async_stream_infer(NETWORK if n != 2 else "nope", inputs(images(n + 1)), request_id=str(n))
    found = [answers.get(timeout=30) for _ in range(4)]
    client.stop_stream()
    assert [result.as_numpy("is").shape[0] for result, _ in found if result is not None] == [1, 2, 4]
    assert found[2][0] is None and "no module named 'nope'" in str(found[2][1])


def test_many_at_once_get_their_own_answers(client: triton.InferenceServerClient, live_world: World) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    xs = [images(1 + n % 3, seed=n) for n in range(24)]
    for n, x in enumerate(xs):
        client.async_infer(NETWORK, inputs(x), lambda result, error: answers.put((result, error)), request_id=str(n))
    for _ in xs:
        found, error = answers.get(timeout=30)
        assert error is None
        x = xs[int(found.get_response().id)]
        np.testing.assert_allclose(found.as_numpy("is"), live_world.answer(f"{NETWORK}:2", x), atol=1e-5)


def test_statistics_count_what_grpc_asks(client: triton.InferenceServerClient) -> None:
    def count() -> int:
        return int(client.get_inference_statistics(NETWORK, "2").model_stats[0].inference_count)

    before = count()
    client.infer(NETWORK, inputs(images(4)), model_version="2")
    assert count() == before + 4
    assert NETWORK in {entry.name for entry in client.get_inference_statistics().model_stats}


def test_load_and_unload(client: triton.InferenceServerClient) -> None:
    client.load_model("eight-teacher")
    client.unload_model("eight-teacher")
    assert not client.is_model_ready("eight-teacher")
    with pytest.raises(InferenceServerException, match="eight-teacher:1 was unloaded") as caught:
        client.infer("eight-teacher", inputs(images(1)))
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    client.load_model("eight-teacher")
    assert client.infer("eight-teacher", inputs(images(1))).as_numpy("is").shape == (1, 1)
    with pytest.raises(InferenceServerException, match="load takes no parameters"):
        client.load_model("eight-teacher", config="{}")


@pytest.mark.parametrize(
    ("ask", "status", "message"),
    [
        (lambda c: c.infer("eight-in-evn", inputs(images(1))), "NOT_FOUND", NETWORK),
        (lambda c: c.infer(NETWORK, inputs(images(1)), model_version="9"), "NOT_FOUND", f"no version {NETWORK}:9"),
        (lambda c: c.infer(NETWORK, inputs(images(1), "image")), "INVALID_ARGUMENT", "the model has no such input"),
        (lambda c: c.infer(NETWORK, inputs(images(1)[:, :, :4])), "INVALID_ARGUMENT", r"expected shape \[N, 1, 8, 8\]"),
        (lambda c: c.infer(NETWORK, inputs(images(257))), "INVALID_ARGUMENT", "a batch of at most 256, got 257"),
        (lambda c: c.infer(NETWORK, inputs(images(1) * np.float32(np.nan))), "INVALID_ARGUMENT", "finite FP32"),
        (lambda c: c.infer(NETWORK, inputs(images(1)), timeout=-1), "INVALID_ARGUMENT", "number of microseconds"),
        (
            lambda c: c.infer(NETWORK, inputs(images(1)), outputs=[triton.InferRequestedOutput("no")]),
            "INVALID_ARGUMENT",
            "it has 'is'",
        ),
        (lambda c: c.get_model_metadata("even-is"), "NOT_FOUND", "of kind task"),
        (lambda c: c.is_model_ready("nope"), "NOT_FOUND", "nope"),
        (lambda c: c.get_system_shared_memory_status(), "UNIMPLEMENTED", "Method not found"),
        (lambda c: c.get_log_settings(), "UNIMPLEMENTED", "Method not found"),
    ],
)
def test_errors_have_a_status_and_are_readable(
    client: triton.InferenceServerClient, ask: Any, status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message) as caught:
        ask(client)
    assert caught.value.status() == f"StatusCode.{status}"


def test_an_error_says_its_code(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "ModelInfer", typed(images(257)))
    assert ("graftery-code", "inference_invalid") in [tuple(pair) for pair in caught.value.trailing_metadata()]


def held_back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Runs of nets wait for this event."""
    release, run = threading.Event(), joint.run

    def slow(*args: Any) -> Any:
        assert release.wait(20)
        return run(*args)

    monkeypatch.setattr(joint, "run", slow)
    return release


def small(world: World, **settings: Any) -> FastAPI:
    return mounted(world, world.settings.model_copy(update={"grpc_port": 0, **settings}))


@pytest.mark.parametrize("packing", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_over_the_limit_is_refused_packed_or_not(world: World, packing: grpc.Compression) -> None:
    app = small(world, infer_body_bytes=200_000)
    with TestClient(app), grpc.insecure_channel(f"127.0.0.1:{app.state.grpc_port}") as channel:
        x = np.zeros((64, 1, 8, 8), np.float32)
        assert call(channel, "ModelInfer", typed(x), compression=packing).model_name == NETWORK
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "ModelInfer", typed(np.zeros((2000, 1, 8, 8), np.float32)), compression=packing)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_full_queue_is_unavailable_and_a_cancelled_call_leaves_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = small(world, infer_queue=2)
    release = held_back(monkeypatch)
    with TestClient(app), triton.InferenceServerClient(f"127.0.0.1:{app.state.grpc_port}") as client:
        release.set()
        client.infer(NETWORK, inputs(images(1)))
        release.clear()
        answers: queue.Queue[Any] = queue.Queue()

        def ask() -> Any:
            return client.async_infer(NETWORK, inputs(images(1)), lambda result, error: answers.put((result, error)))

        calls = [ask() for _ in range(3)]
        _, refused = answers.get(timeout=20)
        assert refused.status() == "StatusCode.UNAVAILABLE" and "already" in refused.message()
        for each in calls:
            each.cancel()
        for _ in range(2):
            assert "cancelled" in str(answers.get(timeout=20)[1]).lower()
        release.set()
        assert eventually(lambda: app.state.serving.batcher.rows == 0, 20)
        assert client.infer(NETWORK, inputs(images(1))).as_numpy("is").shape == (1, 1)


@pytest.mark.parametrize("limit", [{"timeout": 100_000}, {"client_timeout": 0.5}])
def test_what_was_not_run_within_its_time_is_deadline_exceeded(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any]
) -> None:
    app = small(world)
    release = held_back(monkeypatch)
    with TestClient(app), triton.InferenceServerClient(f"127.0.0.1:{app.state.grpc_port}") as client:
        client.load_model(NETWORK)
        first: queue.Queue[Any] = queue.Queue()
        client.async_infer(NETWORK, inputs(images(1)), lambda result, error: first.put((result, error)))
        assert eventually(lambda: app.state.serving.batcher.rows == 1, 20)
        threading.Timer(2.0, release.set).start()
        with pytest.raises(InferenceServerException) as caught:
            client.infer(NETWORK, inputs(images(1)), **limit)
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        assert first.get(timeout=20)[1] is None


def test_a_calls_deadline_and_the_parameter_timeout_bound_the_question(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = small(world)
    asked: list[float | None] = []
    ask = app.state.serving.ask

    async def seen(model: Any, question: Any) -> Any:
        asked.append(question.timeout_s)
        return await ask(model, question)

    monkeypatch.setattr(app.state.serving, "ask", seen)
    with TestClient(app), triton.InferenceServerClient(f"127.0.0.1:{app.state.grpc_port}") as client:
        client.infer(NETWORK, inputs(images(1)))
        client.infer(NETWORK, inputs(images(1)), timeout=20_000_000)
        client.infer(NETWORK, inputs(images(1)), client_timeout=40)
        client.infer(NETWORK, inputs(images(1)), client_timeout=40, timeout=20_000_000)
    assert asked[0] is None and asked[1] == 20.0 and asked[3] == 20.0
    assert asked[2] is not None and 20 < asked[2] < 42


@pytest.mark.parametrize(
    ("sent", "said"), [([b"\xff\xff"], "the request cannot be read"), ([], "the call has no request")]
)
def test_a_call_without_a_message_of_ours_is_refused(channel: grpc.Channel, sent: list[bytes], said: str) -> None:
    with pytest.raises(grpc.RpcError, match=f"ModelInfer: {said}") as caught:
        channel.stream_unary(f"/{messages.SERVICE}/ModelInfer")(iter(sent), timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_ends_at_a_message_that_is_not_ours(channel: grpc.Channel) -> None:
    """With what was answered before it, and the status of what cannot be read."""
    good = typed(images(1)).SerializeToString()
    replies = channel.stream_stream(f"/{messages.SERVICE}/ModelStreamInfer")(iter([good, b"\xff\xff"]), timeout=60)
    answer = messages.message("ModelStreamInferResponse").FromString(next(replies))
    assert answer.infer_response.model_name == NETWORK and not answer.error_message
    with pytest.raises(grpc.RpcError, match="ModelStreamInfer: the request cannot be read") as caught:
        next(replies)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_port_that_is_taken_is_named(world: World, grpc_address: str) -> None:
    taken = int(grpc_address.split(":")[1])
    with (
        pytest.raises(Unavailable, match=f"cannot listen for gRPC on 127.0.0.1 port {taken}"),
        TestClient(small(world, grpc_port=taken)),
    ):
        pass


def test_without_a_port_nothing_listens(world: World) -> None:
    app = mounted(world)
    with TestClient(app):
        assert app.state.grpc_port is None


def test_an_error_of_our_own_tells_nothing_about_the_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    app = small(world)

    def broken(*_: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(app.state.serving, "ask", broken)
    with (
        TestClient(app),
        grpc.insecure_channel(f"127.0.0.1:{app.state.grpc_port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        call(channel, "ModelInfer", typed(images(1)))
    assert caught.value.code() == grpc.StatusCode.INTERNAL and "secret" not in str(caught.value.details())

"""Keys over gRPC, by unmodified clients against a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tritonclient.utils import InferenceServerException

from registry.access import keys
from serving import openinference
from serving.grpc import access, messages, server
from tests.support.access import make_key
from tests.support.world import NETWORK, World, images


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the messages that the server has read."""
    found: list[str] = []

    class Counted:
        def __init__(self, name: str) -> None:
            self.name, self.SerializeToString = name, messages.message(name).SerializeToString

        def FromString(self, data: bytes) -> Any:
            found.append(self.name)
            return messages.message(self.name).FromString(data)

    monkeypatch.setattr(server, "message", Counted)
    return found


@pytest.fixture
def address(world: World) -> Iterator[str]:
    app = FastAPI()
    settings = world.settings.model_copy(
        update={"grpc_port": 0, "access": "keys", "keys_s": 0.0, "rates": {"admin": "2/minute"}}
    )
    openinference.mount(app, settings, world.database, world.store)
    with TestClient(app):
        yield f"127.0.0.1:{app.state.grpc_port}"


def headers(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def inputs(x: Any) -> list[triton.InferInput]:
    made = triton.InferInput("input", list(x.shape), "FP32")
    made.set_data_from_numpy(x)
    return [made]


def refused(call: Any) -> str:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return str(caught.value.status())


def test_every_call_has_its_scope() -> None:
    """A call that is forgotten needs admin."""
    ruled = {"RepositoryModelLoad", "RepositoryModelUnload"}
    assert {*access.NEEDED, *access.OPEN, *ruled} == {*messages.methods()}


def test_without_a_key_only_the_health_is_told(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        for name, method in messages.methods().items():
            request = messages.message(method.input_type.name)
            reply = messages.message(method.output_type.name).FromString
            path = f"/{messages.SERVICE}/{name}"
            if method.server_streaming:
                stream = channel.stream_stream(path, request.SerializeToString, reply)
                outcome: Any = stream(iter([request()]))
                with pytest.raises(grpc.RpcError) as caught:
                    next(outcome)
            elif name in access.OPEN:
                channel.unary_unary(path, request.SerializeToString, reply)(request(), timeout=20)
                continue
            else:
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(path, request.SerializeToString, reply)(request(), timeout=20)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED, name
            assert dict(caught.value.trailing_metadata())["graftery-code"] == "unauthenticated"


def test_no_message_is_read_before_its_key_is_taken(read: list[str], world: World, address: str) -> None:
    asking, looking = make_key(world.database, "asking", "infer"), make_key(world.database, "looking", "read")
    x = images(1)
    with triton.InferenceServerClient(address) as client:
        for sent in ({}, headers(asking[:-1]), headers(looking)):
            ask = partial(client.infer, NETWORK, inputs(x), headers=sent)
            assert refused(ask) in ("StatusCode.UNAUTHENTICATED", "StatusCode.PERMISSION_DENIED")
        with grpc.insecure_channel(address) as channel:
            stream = channel.stream_stream(f"/{messages.SERVICE}/ModelStreamInfer")(iter([b""]))
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                next(stream)
        assert read == []
        client.infer(NETWORK, inputs(x), headers=headers(asking))
    assert read == ["ModelInferRequest"]


def test_so_many_calls_at_once_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()
    monkeypatch.setattr(server, "CALLS_BESIDE", 2)
    settings = world.settings.model_copy(update={"grpc_port": 0, "infer_queue": 1})
    openinference.mount(app, settings, world.database, world.store)
    path = f"/{messages.SERVICE}/ModelStreamInfer"
    with TestClient(app), grpc.insecure_channel(f"127.0.0.1:{app.state.grpc_port}") as channel:
        end = threading.Event()

        def silent() -> Iterator[bytes]:
            end.wait(30)
            yield from ()

        streams = [channel.stream_stream(path)(silent()) for _ in range(3)]
        live = channel.unary_unary(f"/{messages.SERVICE}/ServerLive")
        code = None
        for _ in range(100):  # until all three have come
            try:
                live(b"", timeout=5)
            except grpc.RpcError as error:
                code = error.code()
                break
            time.sleep(0.05)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        end.set()
        for stream in streams:
            assert list(stream) == []
        live(b"", timeout=5)


def test_a_key_with_the_scope_is_taken(world: World, address: str) -> None:
    asking, reading = make_key(world.database, "asking", "infer"), make_key(world.database, "reading", "read")
    x = images(2)
    with triton.InferenceServerClient(address) as client:
        found = client.infer(NETWORK, inputs(x), headers=headers(asking)).as_numpy("is")
        np.testing.assert_allclose(found, world.answer(f"{NETWORK}:2", x), rtol=1e-5, atol=1e-5)
        client.get_model_metadata(NETWORK, headers=headers(reading))
        assert "PERMISSION_DENIED" in refused(lambda: client.infer(NETWORK, inputs(x), headers=headers(reading)))
        assert "PERMISSION_DENIED" in refused(lambda: client.unload_model(NETWORK, headers=headers(asking)))
        assert "UNAUTHENTICATED" in refused(lambda: client.infer(NETWORK, inputs(x), headers=headers(asking[:-1])))
        assert "UNAUTHENTICATED" in refused(
            lambda: client.infer(NETWORK, inputs(x), headers={"authorization": "Basic abc"})
        )


def test_too_many_calls_are_told_when_to_come_back(world: World, address: str) -> None:
    root = make_key(world.database, "root", "admin")
    with triton.InferenceServerClient(address) as client:
        for _ in range(2):
            client.load_model(NETWORK, headers=headers(root))
        assert "RESOURCE_EXHAUSTED" in refused(lambda: client.load_model(NETWORK, headers=headers(root)))


def test_a_key_that_is_taken_back_ends_its_stream(world: World, address: str) -> None:
    asking = make_key(world.database, "asking", "infer")
    answers: list[Any] = []
    came = threading.Semaphore(0)

    def take(result: Any, error: Any) -> None:
        answers.append(error if error is not None else result)
        came.release()

    with triton.InferenceServerClient(address) as client:
        client.start_stream(take, headers=headers(asking))
        client.async_stream_infer(NETWORK, inputs(images(1)))
        assert came.acquire(timeout=20)
        assert isinstance(answers[0], triton.InferResult)
        with world.database.transaction() as session:
            keys.revoke(session, "asking")
        client.async_stream_infer(NETWORK, inputs(images(1)))
        assert came.acquire(timeout=20)
        assert "UNAUTHENTICATED" in str(answers[1].status())

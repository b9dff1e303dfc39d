"""Thousands of infer requests that are nearly right: never a 500, never a hang, and every refusal says what was wrong.

GRAFTERY_FUZZ=20 makes twenty times as many, each time others.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graftery.errors import InferenceRefused
from serving import bounds
from serving.grpc import tensors
from serving.grpc.messages import message
from tests.support import bodies
from tests.support.asgi import Caller, Reply
from tests.support.bodies import Body
from tests.support.inference import mounted
from tests.support.world import NETWORK, PHOTO, World, images

TIMES = int(os.environ.get("GRAFTERY_FUZZ", "1"))
VALID = bodies.valid()
# What an error may speak of: a tensor, a field of the request, the body as a whole.
NAMED = re.compile(
    r"inputs?\b|outputs?\b|parameters|JSON|Inference-Header-Content-Length|Content-Encoding|body|bytes|id:"
)


def many(examples: int) -> Any:
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def fuzzed(live_world: World) -> Iterator[Caller]:
    app = mounted(live_world)
    caller = Caller(app)
    for body in VALID:
        check(caller, body, {200})
    yield caller
    caller.close()
    app.state.serving.close()


def check(caller: Caller, body: Body, statuses: set[int] | None = None) -> Reply:
    """Send it; whatever the answer, it is one that the protocol has and a client can read."""
    raw, headers = body.sent()
    reply = caller.post(f"/v2/models/{body.model}/infer", raw, headers)
    assert reply.status in (statuses or {200, 400, 413, 415, 504}), (reply, raw[:300], headers)
    length = reply.headers.get("inference-header-content-length")
    document = json.loads(reply.body[: int(length)] if length else reply.body)
    if reply.status == 200:
        assert document["model_name"] == body.model and document["outputs"]
        return reply
    assert document.keys() == {"error"} and NAMED.search(document["error"]), document
    assert len(document["error"]) < 2000, document
    assert reply.status != 504 or b"timeout" in raw
    return reply


@many(1200)
@given(st.sampled_from(VALID).flatmap(bodies.changed_documents))
def test_changed_documents(fuzzed: Caller, body: Body) -> None:
    check(fuzzed, body)


@many(1200)
@given(st.sampled_from(VALID).flatmap(bodies.broken_bodies))
def test_broken_bodies(fuzzed: Caller, body: Body) -> None:
    check(fuzzed, body)


@many(600)
@given(bodies.image_bodies())
def test_broken_images(fuzzed: Caller, body: Body) -> None:
    check(fuzzed, body)


@pytest.mark.parametrize("key", ["name", "datatype", "shape", "parameters", "data"])
@many(60)
@given(body=st.sampled_from(VALID), value=bodies.ODD)
def test_a_wrong_field_of_a_tensor_is_refused_by_the_tensors_name(
    fuzzed: Caller, key: str, body: Body, value: Any
) -> None:
    (tensor,) = body.document["inputs"]
    changed = {**body.document, "inputs": [tensor | {key: value}]}
    reply = check(fuzzed, Body(body.model, changed, body.binary))
    if reply.status == 400 and "JSON" not in (error := json.loads(reply.body)["error"]):
        assert error.startswith(("input ", "inputs[0]")) or "belong to no input" in error, error


@pytest.mark.parametrize("depth", [10, 100, 500, 900, 990, 5000, 100_000])
@pytest.mark.parametrize("key", ["data", "parameters", "x"])
def test_deep_nesting(fuzzed: Caller, depth: int, key: str) -> None:
    (tensor,) = VALID[0].document["inputs"]
    nest = bodies.Raw('{"a":' * depth + "1" + "}" * depth if key == "parameters" else "[" * depth + "]" * depth)
    check(fuzzed, Body(NETWORK, {"inputs": [tensor | {key: nest}]}))
    status = 413 if key == "parameters" and depth > bounds.MOST[b"{"][0] else 400
    check(fuzzed, Body(NETWORK, {"inputs": [tensor], "parameters": {"binary_data_output": nest}}), {status})
    check(fuzzed, Body(NETWORK, {"inputs": [tensor], "parameters": {"timeout": nest}}), {status})


_SHAPES = st.lists(st.integers(-3, 300) | st.just(2**62), max_size=5)


@st.composite
def _messages(draw: st.DrawFn) -> Any:
    """gRPC requests with parts that do not fit each other."""
    request = message("ModelInferRequest")(id=draw(st.text(max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        shape = draw(st.sampled_from([[1, 1, 8, 8], [1]]) | _SHAPES)
        name, datatype = draw(st.sampled_from(["input", "input", "x"])), draw(st.sampled_from(bodies.DATATYPES))
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        for field, values in (("fp32", [0.0] * 64), ("int", [1, 70000]), ("bytes", [b"x"]), ("bool", [True])):
            if draw(st.integers(0, 3)) == 0:
                getattr(tensor.contents, f"{field}_contents").extend(values)
        if draw(st.booleans()):
            tensor.parameters[draw(st.sampled_from(bodies.NAMES))].int64_param = draw(st.integers(-(2**63), 2**63 - 1))
    for raw in draw(st.lists(st.sampled_from([b"", images(1).tobytes(), b"\4\0\0\0abcd"]), max_size=2)):
        request.raw_input_contents.append(raw)
    for name in draw(st.lists(st.sampled_from(["is", "no", ""]), max_size=2)):
        request.outputs.add(name=name)
    if draw(st.booleans()):
        request.parameters["timeout"].int64_param = draw(st.integers(-(2**63), 2**63 - 1))
    return request


@pytest.mark.parametrize("name", [NETWORK, PHOTO])
@many(400)
@given(request=_messages())
def test_grpc_requests_are_read_or_refused(live_world: World, name: str, request: Any) -> None:
    from serving.models import find

    with live_world.database.read() as session:
        model = find(session, name)
    try:
        found = tensors.read(request, model, 8, None)
    except InferenceRefused as error:
        assert re.search(r"input|output|parameters|raw_input_contents", str(error)), error
    else:
        assert found.question.x.ndim == 4

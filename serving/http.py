"""An infer request over HTTP: from a body's bytes to an answer's bytes.

Infer requests do not pass FastAPI, whose middleware, routing and validation would take longer than many nets: the app asks `Direct`
first.
Small bodies are read and written in the event loop, large ones in a thread, so that nobody else waits for them. What is read there
waits for its thread as it came, packed, in a line that is bounded.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import orjson
from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from serving import bodies, encoded, protocol, replies
from serving.asking import Answer, Question
from serving.branches import Model
from serving.errors import refusal
from serving.protocol import InferRequest
from serving.service import Serving

T = TypeVar("T")
HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"
INLINE_BYTES = 256 * 1024
REHEARSALS, REHEARSE_S = 10, 0.05
_READ_HEADERS = (b"content-encoding", HEADER_LENGTH.lower().encode(), b"accept-encoding")
_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


@dataclass(frozen=True)
class Call:
    """The request as it came: the body packed, and the headers that say how to read it."""

    body: bytes
    encoding: str | None = None
    header_length: str | None = None
    accept: str | None = None

    @classmethod
    def of(cls, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Call:
        """Args: `headers`, with names in lower case, as ASGI has them; of one that is there twice, the first counts."""
        sent = {name: value.decode("latin-1") for name, value in reversed(list(headers)) if name in _READ_HEADERS}
        return cls(body, *map(sent.get, _READ_HEADERS))

    @property
    def is_small(self) -> bool:
        # Binary tensors are not parsed: their size takes no time. A packed body may be anything.
        size = len(self.body) if self.header_length is None else int(self.header_length[:9] or 0)
        return self.encoding is None and size <= INLINE_BYTES


@dataclass(frozen=True)
class _Read:
    """A body that was read: the question, and of each wanted output whether it goes back as bytes."""

    request_id: str | None
    question: Question
    binary: dict[str, bool]


async def answer(serving: Serving, name: str, version: str | None, request: Request) -> Response:
    """Answer an infer request.

    Raises:
        NotFound, InferenceRefused, Unavailable
    """
    began = time.perf_counter()
    body = await bodies.read(request, serving.settings.infer_body_bytes)
    call = Call.of(body, request.scope["headers"])
    model = await serving.found(name, version)
    with serving.counted(model, began) as steps_s:
        read = await _read(serving, model, call)
        steps_s["compute_input"] = time.perf_counter() - began
        found = await serving.ask(model, read.question, lambda: _gone(request.receive))
        written = time.perf_counter()
        size = sum(array.nbytes for array in found.outputs.values())
        response = await _small_here(size <= INLINE_BYTES, lambda: _written(found, read, call.accept))
        steps_s |= {step: steps_s.get(step, 0.0) + seconds for step, seconds in found.steps_s.items()}
        steps_s["compute_output"] += time.perf_counter() - written
        steps_s["rows"] = len(read.question.x)
    return response


class Direct:
    """Answers infer requests itself, and no others.

    Args:
        routes: those that describe the same paths to readers of the API: by whether a version is in the path.
    """

    def __init__(self, serving: Serving, routes: dict[bool, BaseRoute]) -> None:
        self._serving, self._routes = serving, routes

    @staticmethod
    def takes(scope: Scope) -> bool:
        """Whether this is an infer request."""
        return scope["type"] == "http" and scope["method"] == "POST" and _PATH.fullmatch(scope["path"]) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, version = _PATH.fullmatch(scope["path"]).groups()  # type: ignore[union-attr]  # it was asked whether it takes this
        scope["route"] = self._routes.get(version is not None)
        request = Request(scope, receive)
        try:
            response = await answer(self._serving, name, version, request)
        except ClientDisconnect:
            raise
        except Exception as error:
            response = refusal(request, error)
        await response(scope, receive, send)


async def rehearse(serving: Serving, model: Model) -> None:
    """Answer zeros as requests from outside are answered: the next one then meets no code and no thread that is new.

    A few times, as the interpreter makes code faster that was run a few times; a net that takes long is run once.
    """
    zeros = await serving.example(model)
    if zeros is None:
        return
    declared = model.input
    described = {"name": declared.name, "shape": list(zeros.shape), "datatype": declared.datatype}
    tensor = described | {"parameters": {"binary_data_size": zeros.nbytes}}
    head = orjson.dumps({"inputs": [tensor]})
    call = Call(head + zeros.tobytes(), header_length=str(len(head)))
    until = time.monotonic() + REHEARSE_S
    for _ in range(REHEARSALS):
        read = await _read(serving, model, call)
        _written(await serving.ask(model, read.question), read, None)
        if time.monotonic() > until:
            return


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _small_here(small: bool, work: Callable[[], T]) -> T:
    return work() if small else await run_in_threadpool(work)


def _is_small(call: Call) -> bool:
    try:
        return call.is_small
    except ValueError:
        return True  # its refusal is a matter of microseconds


async def _read(serving: Serving, model: Model, call: Call) -> _Read:
    if not _is_small(call):
        # All at one desk, images too: what was unpacked and parsed waits for nobody.
        return await serving.parsing.do(lambda: _question(serving, model, *_parsed(serving, call)))
    request, binary = _parsed(serving, call)
    images = [tensor.shape for tensor in request.inputs if tensor.datatype == encoded.BYTES]
    if images:  # to be decoded, which takes its time
        rows = encoded.rows_sent(images, serving.settings.infer_batch)
        return await serving.decoding.do(lambda: _question(serving, model, request, binary), rows)
    return _question(serving, model, request, binary)


def _parsed(serving: Serving, call: Call) -> tuple[InferRequest, memoryview]:
    body = bodies.unpack(call.body, call.encoding, serving.settings.infer_body_bytes)
    return protocol.parse(body, call.header_length)


def _question(serving: Serving, model: Model, request: InferRequest, binary: memoryview) -> _Read:
    wishes = protocol.wishes_of(request, model.outputs, model.why_unready)
    declared = model.asked(wishes).input
    arrays = protocol.inputs_of(request, binary, [declared], serving.settings.infer_batch)
    question = Question(arrays[declared.name], tuple(wishes), protocol.timeout_of(request))
    return _Read(request.id, question, wishes)


def _written(found: Answer, read: _Read, accept: str | None) -> Response:
    model = found.model
    outputs = [
        replies.Output(name, model.outputs[name].declared.datatype, array, read.binary[name])
        for name, array in found.outputs.items()
    ]
    body, header_length = replies.encode(model.name, model.version, read.request_id, outputs)
    headers = {"Vary": "Accept-Encoding"}
    packing = bodies.chosen_packing(accept) if len(body) >= bodies.PACK_FROM_BYTES else None
    if packing is not None:
        body, headers["Content-Encoding"] = bodies.pack(body, packing), packing
    if header_length is None:
        return Response(body, headers=headers, media_type="application/json")
    headers[HEADER_LENGTH] = str(header_length)
    return Response(body, headers=headers, media_type=BINARY)

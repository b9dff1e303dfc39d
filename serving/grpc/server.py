"""The gRPC server beside the HTTP plane: started and ended with the app, in its event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from graftery.errors import GrafteryError, InferenceRefused, Unavailable
from registry.access.guard import Guard
from serving.grpc import calls, status
from serving.grpc.access import admit, admitted
from serving.grpc.messages import SERVICE, Message, message, methods
from serving.service import Serving

log = structlog.get_logger("graftery.inference")

# What a message has beside its tensors: names, shapes, parameters.
_ENVELOPE_BYTES = 64 * 1024
_GRACE_S = 2.0
CALLS_BESIDE = 64
"""Calls at once beyond the rows that may wait: streams that are silent, and what asks how the service is."""


@asynccontextmanager
async def listening(serving: Serving, guard: Guard, host: str, port: int) -> AsyncIterator[int]:
    """Serve until the block ends; gives the port, which is any free one where 0 was asked for.

    Raises:
        Unavailable: the address is taken, or is none of ours.
    """
    options = [
        ("grpc.max_receive_message_length", serving.settings.infer_body_bytes + _ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
        # With it, a second service on the port would take half of the calls, and nobody would know.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=serving.settings.infer_queue + CALLS_BESIDE)
    server.add_generic_rpc_handlers((_handlers(serving, guard),))
    try:
        found: int = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise Unavailable(f"cannot listen for gRPC on {host} port {port}: {error}") from error
    await server.start()
    log.info("grpc_listening", host=host, port=found)
    try:
        yield found
    finally:
        await server.stop(_GRACE_S)


def _handlers(serving: Serving, guard: Guard) -> Any:
    found = {}
    for name, method in methods().items():
        forms = {
            "request_deserializer": message(method.input_type.name).FromString,
            "response_serializer": message(method.output_type.name).SerializeToString,
        }
        if method.server_streaming:
            found[name] = grpc.stream_stream_rpc_method_handler(_streamed(serving, guard, name), **forms)
        else:
            # A stream of one message, which is the same on the wire: grpc.aio takes the message of a unary call, and makes
            # objects of it, before anybody may look at the key.
            found[name] = grpc.stream_unary_rpc_method_handler(_unary(serving, guard, name), **forms)
    return grpc.method_handlers_generic_handler(SERVICE, found)


def _unary(
    serving: Serving, guard: Guard, name: str
) -> Callable[[AsyncIterator[Message], calls.Context], Awaitable[Message]]:
    call = calls.UNARY[name]

    async def answer(requests: AsyncIterator[Message], context: calls.Context) -> Message:
        try:
            await admit(guard, name, context)
            return await call(serving, await _only(_readable(requests, name), name), context)
        except Exception as error:
            return await status.abort(context, error, name)

    return answer


async def _readable(requests: AsyncIterator[Message], name: str) -> AsyncIterator[Message]:
    """The same requests.

    Raises:
        InferenceRefused: one is none of ours.
    """
    try:
        async for request in requests:
            yield request
    except DecodeError as error:
        raise InferenceRefused(f"{name}: the request cannot be read: {error}") from None


async def _only(requests: AsyncIterator[Message], name: str) -> Message:
    """The message of a call that has one.

    Raises:
        InferenceRefused: there is none, or it cannot be read.
    """
    async for request in requests:
        return request
    raise InferenceRefused(f"{name}: the call has no request")


def _streamed(
    serving: Serving, guard: Guard, name: str
) -> Callable[[AsyncIterator[Message], calls.Context], AsyncIterator[Message]]:
    # grpc.aio tells by the function itself, not by what it gives, that it is asynchronous.
    async def answer(requests: AsyncIterator[Message], context: calls.Context) -> AsyncIterator[Message]:
        let_in = admitted(guard, name, _readable(requests, name), context)
        try:
            async for reply in calls.model_stream_infer(serving, let_in, context):
                yield reply
        except GrafteryError as error:
            await status.abort(context, error, name)

    return answer

"""The calls of GRPCInferenceService, each from a request to its response, on the same `Serving` as the HTTP plane."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from graftery.errors import GrafteryError, InferenceRefused, Unavailable
from serving.documents import ServerMetadata
from serving.encoded import BYTES, rows_sent
from serving.grpc import tensors
from serving.grpc.messages import Message, StreamResponse, filled
from serving.grpc.status import refusal
from serving.service import Serving

T = TypeVar("T")
Context = Any
Call = Callable[[Serving, Message, Context], Awaitable[Message]]
QUICK_BYTES = 64 * 1024
"""What is smaller is read and written in the event loop: a thread would take longer."""


async def server_live(_serving: Serving, _request: Message, _context: Context) -> Message:
    return filled("ServerLiveResponse", {"live": True})


async def server_ready(serving: Serving, _request: Message, _context: Context) -> Message:
    """The database answers, so models can be found, and the process was not asked to end."""

    def ready() -> bool:
        try:
            serving.check_up()
        except GrafteryError:
            return False
        return True

    return filled("ServerReadyResponse", {"ready": await run_in_threadpool(ready)})


async def model_ready(serving: Serving, request: Message, _context: Context) -> Message:
    """False where it cannot be asked now; an unknown model is NOT_FOUND."""

    def ready() -> bool:
        try:
            serving.check_ready(request.name, request.version or None)
        except Unavailable:
            return False
        return True

    return filled("ModelReadyResponse", {"ready": await run_in_threadpool(ready)})


async def server_metadata(_serving: Serving, _request: Message, _context: Context) -> Message:
    return filled("ServerMetadataResponse", ServerMetadata().model_dump())


async def model_metadata(serving: Serving, request: Message, _context: Context) -> Message:
    found = await run_in_threadpool(serving.metadata, request.name, request.version or None)
    return filled("ModelMetadataResponse", found.model_dump())


async def model_config(serving: Serving, request: Message, _context: Context) -> Message:
    found = await run_in_threadpool(serving.config, request.name, request.version or None)
    return filled("ModelConfigResponse", {"config": found})


async def model_statistics(serving: Serving, request: Message, _context: Context) -> Message:
    """Without a name, of everything that was asked."""
    found = await run_in_threadpool(serving.stats, request.name or None, request.version or None)
    return filled("ModelStatisticsResponse", found)


async def repository_index(serving: Serving, request: Message, _context: Context) -> Message:
    found = await run_in_threadpool(serving.index, request.ready)
    return filled("RepositoryIndexResponse", {"models": [entry.model_dump() for entry in found]})


async def repository_model_load(serving: Serving, request: Message, _context: Context) -> Message:
    if request.parameters:
        raise InferenceRefused("load takes no parameters: models come from the registry, as they were published")
    await serving.load(request.model_name)
    return filled("RepositoryModelLoadResponse", {})


async def repository_model_unload(serving: Serving, request: Message, _context: Context) -> Message:
    await run_in_threadpool(serving.unload, request.model_name)
    return filled("RepositoryModelUnloadResponse", {})


async def model_infer(serving: Serving, request: Message, context: Context) -> Message:
    """Ask a model. The call's deadline bounds the waiting, and a call that was cancelled leaves the queue."""
    began = time.perf_counter()
    model = await serving.found(request.model_name, request.model_version or None)
    with serving.counted(model, began) as steps_s:
        limits = (serving.settings.infer_batch, context.time_remaining())
        read = await _read(serving, request, lambda: tensors.read(request, model, *limits))
        steps_s["compute_input"] = time.perf_counter() - began
        answer = await serving.ask(model, read.question)
        written = time.perf_counter()
        size = sum(array.nbytes for array in answer.outputs.values())
        reply = await _quick_here(size <= QUICK_BYTES, lambda: tensors.response(answer, request.id, read.raw))
        steps_s |= {step: steps_s.get(step, 0.0) + seconds for step, seconds in answer.steps_s.items()}
        steps_s["compute_output"] += time.perf_counter() - written
        steps_s["rows"] = len(read.question.x)
    return reply


async def _read(serving: Serving, request: Message, work: Callable[[], T]) -> T:
    tensors.check_counts(request)  # its tensors are gone through here, in the event loop
    images = [tensor.shape for tensor in request.inputs if tensor.datatype == BYTES]
    if images:  # to be decoded, which takes its time
        return await serving.decoding.do(work, rows_sent(images, serving.settings.infer_batch))
    # Raw tensors are not parsed, so their size takes no time.
    quick = bool(request.raw_input_contents) or request.ByteSize() <= QUICK_BYTES
    return work() if quick else await serving.parsing.do(work)


async def _quick_here(quick: bool, work: Callable[[], T]) -> T:
    return work() if quick else await run_in_threadpool(work)


async def model_stream_infer(
    serving: Serving, requests: AsyncIterator[Message], context: Context
) -> AsyncIterator[Message]:
    """Answer each request of a stream in its turn. A refused one does not end the stream."""
    async for request in requests:
        try:
            yield StreamResponse(infer_response=await model_infer(serving, request, context))
        except Exception as error:
            _, text, _ = refusal(error, "ModelStreamInfer")
            yield StreamResponse(error_message=text)


UNARY: dict[str, Call] = {
    "ServerLive": server_live,
    "ServerReady": server_ready,
    "ModelReady": model_ready,
    "ServerMetadata": server_metadata,
    "ModelMetadata": model_metadata,
    "ModelConfig": model_config,
    "ModelStatistics": model_statistics,
    "RepositoryIndex": repository_index,
    "RepositoryModelLoad": repository_model_load,
    "RepositoryModelUnload": repository_model_unload,
    "ModelInfer": model_infer,
}

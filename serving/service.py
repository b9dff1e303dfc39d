"""The inference plane of one process: from a request's bytes to its answer's bytes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from starlette.concurrency import run_in_threadpool
from torch import nn

from graftery.errors import GrafteryError, InferenceRefused, StoreError, Unavailable
from graftery.spec.names import parse_reference
from registry import catalogue
from registry.db import Database
from registry.models import Version
from registry.settings import Settings
from registry.store import Store
from serving import bodies, documents, models, network, protocol
from serving.asking import Answer, Question
from serving.documents import IndexEntry, ModelMetadata
from serving.engine import Engine, Gate
from serving.models import Model
from serving.pool import Pool
from serving.stats import Collector, Statistics


@dataclass(frozen=True)
class Call:
    """The request as it came: the body packed, and the headers that say how to read it."""

    body: bytes
    encoding: str | None = None
    header_length: str | None = None
    accept: str | None = None


@dataclass(frozen=True)
class Reply:
    body: bytes
    header_length: int | None
    packing: str | None


@dataclass(frozen=True)
class _Read:
    """A body that was read: the question, and of each wanted output whether it goes back as bytes."""

    request_id: str | None
    question: Question
    binary: dict[str, bool]


class Serving:
    """Finds, loads and runs models. Start-up costs nothing: a model is loaded when it is first asked."""

    def __init__(self, settings: Settings, database: Database, store: Store) -> None:
        self.settings, self.database, self.store = settings, database, store
        self.device = network.device_of(settings.device)
        self.pool: Pool[nn.Module] = Pool(
            lambda digest: network.load(store, digest, self.device), network.unload, settings.pool_bytes
        )
        self.engine = Engine(settings.infer_queue, self._prepare)
        self.loading = Gate(settings.infer_queue, "wait for networks to be loaded")
        self.statistics = Statistics()
        self.collector = Collector(self.statistics, self.pool.residents, lambda: self.engine.gate.inside)
        self._known: models.Known = {}
        self._unloaded: set[str] = set()

    def close(self) -> None:
        """End the threads and give the memory back."""
        self.engine.close()
        self.pool.close()

    def find(self, name: str, version: str | None = None) -> Model:
        """What a path names now; see `serving.models.find`."""
        with self.database.read() as session:
            return models.find(session, name, version, self._known)

    async def infer(self, name: str, version: str | None, call: Call) -> Reply:
        """Answer an infer request of the HTTP protocol.

        Raises:
            NotFound, InferenceRefused, Unavailable
        """
        began = time.perf_counter()
        model = await run_in_threadpool(self.find, name, version)
        with self.counted(model, began) as steps_s:
            read = await run_in_threadpool(self._read, model, call)
            steps_s["compute_input"] = time.perf_counter() - began
            answer = await self.ask(model, read.question)
            written = time.perf_counter()
            reply = await run_in_threadpool(_written, answer, read, call.accept)
            steps_s |= {step: steps_s.get(step, 0.0) + seconds for step, seconds in answer.steps_s.items()}
            steps_s["compute_output"] += time.perf_counter() - written
            steps_s["rows"] = len(read.question.x)
        return reply

    @contextmanager
    def counted(self, model: Model, began: float) -> Iterator[dict[str, float]]:
        """Count what happens inside as one request to the model, for the statistics of every transport.

        Args:
            began: when the request came, by `time.perf_counter`.

        Yields:
            To be filled with the seconds of `stats.STEPS` and with `rows`, the rows that were answered.
        """
        steps_s: dict[str, float] = {}
        try:
            yield steps_s
        except Exception as error:
            self.statistics.failed(model.name, model.version, time.perf_counter() - began, _reason(error))
            raise
        rows = int(steps_s.pop("rows"))
        self.statistics.succeeded(model.name, model.version, rows, time.perf_counter() - began, steps_s)

    async def ask(self, model: Model, question: Question) -> Answer:
        """Run a question through the model; what every transport calls, between reading and writing.

        Raises:
            InferenceRefused: the nets cannot run on these sizes.
            Unavailable: unloaded, not ready, or too much waits already.
        """
        self._refuse_unloaded(model.key)
        queued = time.perf_counter()
        async with self._held(model) as nets:
            started, run = await self.engine.run(
                lambda: (time.perf_counter(), network.run(model, nets, question.x, question.wanted, self.device))
            )
        steps_s = {
            "queue": started - queued,
            "compute_input": run.input_s,
            "compute_infer": run.infer_s,
            "compute_output": run.output_s,
        }
        return Answer(model, run.outputs, steps_s)

    def _read(self, model: Model, call: Call) -> _Read:
        body = bodies.unpack(call.body, call.encoding, self.settings.infer_body_bytes)
        request, binary = protocol.parse(body, call.header_length)
        wishes = protocol.wishes_of(request, list(model.outputs))
        arrays = protocol.inputs_of(request, binary, [model.input], self.settings.infer_batch)
        return _Read(request.id, Question(arrays[model.input.name], tuple(wishes)), wishes)

    @asynccontextmanager
    async def _held(self, model: Model) -> AsyncIterator[dict[str, nn.Module]]:
        """The model's modules. Those who wait for loading are counted apart, so that they keep nobody else out."""
        async with AsyncExitStack() as stack:
            with nullcontext() if self.pool.has(model.parts) else self.loading.entered():
                nets = await stack.enter_async_context(self.pool.hold(model.parts, model.key))
            yield nets

    async def load(self, name: str) -> Model:
        """Have a model in memory before it is asked, and undo an `unload`."""
        model = await run_in_threadpool(self.find, name)
        async with self._held(model):
            self._unloaded.discard(model.key)
        return model

    def unload(self, name: str) -> Model:
        """Give a model's memory back, except for what other models use, and refuse requests for it until `load`."""
        model = self.find(name)
        self._unloaded.add(model.key)
        self.pool.release(model.key)
        return model

    def check_ready(self, name: str, version: str | None = None) -> Model:
        """Make sure that a model can be asked.

        Raises:
            Unavailable: `not_ready`, with the cause.
        """
        model = self.find(name, version)
        reason = self._trouble(model.key, model.parts)
        missing = [digest for digest in model.parts if not self.store.exists(digest)]
        if missing:
            reason = f"the store has no bytes with sha256 {missing[0]}"
        if reason:
            raise Unavailable(f"{model.key} is not ready: {reason}", code="not_ready")
        return model

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        model = self.find(name, version)
        return documents.metadata(model, self._versions(model, name, version))

    def config(self, name: str, version: str | None = None) -> dict[str, Any]:
        model = self.find(name, version)
        kind = "KIND_GPU" if self.device.type == "cuda" else "KIND_CPU"
        return documents.config(model, self._versions(model, name, version), self.settings.infer_batch, kind)

    def stats(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Triton's statistics: of everything that was asked, of one name, or of one version."""
        wanted = self.statistics.known()
        if name is not None:
            model = self.find(name, version)
            one = (model.name, model.version)
            alone = version is not None or parse_reference(name).name != name
            wanted = [one] if alone else sorted({one, *(key for key in wanted if key[0] == model.name)})
        return {"model_stats": [self.statistics.document(*key, self._memory(":".join(key))) for key in wanted]}

    def index(self, ready_only: bool = False) -> list[IndexEntry]:
        """Networks, and the category modules that they are composed of: every version that can be asked."""
        with self.database.read() as session:
            found = [version for _, versions in catalogue.served_networks(session) for version in versions]
            found += catalogue.served_categories(session)
            entries = [self._entry(version) for version in found]
        return [entry for entry in entries if entry.state == "READY" or not ready_only]

    def _entry(self, version: Version) -> IndexEntry:
        digests = list((version.parts or {"category": version.digest}).values())
        reason = self._trouble(version.ref, digests)
        state = "UNAVAILABLE" if reason else "READY"
        return IndexEntry(name=version.module.name, version=str(version.number), state=state, reason=reason)

    def _trouble(self, key: str, digests: Iterable[str]) -> str:
        if key in self._unloaded:
            return "it was unloaded; load it to use it again"
        return next((cause for digest in digests if (cause := self.pool.failure(digest))), "")

    def _refuse_unloaded(self, key: str) -> None:
        if key in self._unloaded:
            raise Unavailable(
                f"{key} was unloaded", code="not_ready", hint=f"POST /v2/repository/models/{key}/load loads it again"
            )

    def _versions(self, model: Model, name: str, version: str | None) -> list[str]:
        if version is not None or name != model.name:
            return [model.version]
        with self.database.read() as session:
            return [str(number) for number in catalogue.version_numbers(session, model.name)]

    def _memory(self, key: str) -> list[dict[str, Any]]:
        size = sum(part.size_bytes for part in self.pool.residents() if key in part.owners)
        kind = "GPU" if self.device.type == "cuda" else "CPU"
        return [{"type": kind, "id": self.device.index or 0, "byte_size": size}]

    def _prepare(self) -> None:
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)


def _written(answer: Answer, read: _Read, accept: str | None) -> Reply:
    model = answer.model
    outputs = [
        protocol.Output(name, model.outputs[name].declared.datatype, array, read.binary[name])
        for name, array in answer.outputs.items()
    ]
    body, header_length = protocol.encode(model.name, model.version, read.request_id, outputs)
    packing = bodies.chosen_packing(accept) if len(body) >= bodies.PACK_FROM_BYTES else None
    return Reply(bodies.pack(body, packing) if packing else body, header_length, packing)


def _reason(error: Exception) -> str:
    if isinstance(error, Unavailable | StoreError):
        return "REJECTED"
    return "OTHER" if isinstance(error, InferenceRefused | GrafteryError) else "BACKEND"

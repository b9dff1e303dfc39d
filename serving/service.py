"""The inference plane of one process: what its models are, and asking them. Transports read and write around it."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import Any

import numpy as np
import structlog
import torch
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from graftery.errors import GrafteryError, InferenceRefused, StoreError, Unavailable
from graftery.spec.names import parse_reference
from registry import catalogue, generics
from registry.db import Database, check_head
from registry.models import Version
from registry.settings import Settings
from registry.store import Store
from serving import documents, joint, parts
from serving.asking import Answer, Question
from serving.batcher import Batcher, Done, Gone
from serving.branches import Model
from serving.derived import Deriver
from serving.desk import PARSERS, Desk
from serving.documents import IndexEntry, ModelMetadata
from serving.gate import Gate
from serving.images import DECODERS
from serving.joint import FeatureCache, Job, Took
from serving.lookup import Lookup, clock_of
from serving.parts import Part
from serving.pool import Pool
from serving.sizes import Sizes
from serving.stats import Collector, Statistics
from serving.tensors import DTYPES, Array
from serving.timely import in_time

log = structlog.get_logger("graftery.inference")


class Serving:
    """Finds, loads and runs models. Start-up costs nothing: a model is loaded when it is first asked."""

    def __init__(self, settings: Settings, database: Database, store: Store) -> None:
        self.settings, self.database, self.store = settings, database, store
        self.device = parts.device_of(settings.device)
        self.pool: Pool[Part] = Pool(self._load, Part.free, settings.pool_bytes)
        self.deriver = Deriver(settings, store, self.device, self.pool.resized)
        self.cache = FeatureCache(settings.feature_cache_bytes)
        self.batcher = Batcher(self._run, settings.infer_queue, settings.infer_merge, self._prepare, self._delay_s)
        self.loading = Gate(settings.infer_queue, "wait for networks to be loaded")
        self.decoding = Desk(DECODERS, settings.infer_queue, "wait for their images to be decoded")
        self.parsing = Desk(PARSERS, settings.infer_queue, "wait to be read")
        self.sizes = Sizes(store, settings.limits, settings.infer_queue)
        self.statistics = Statistics()
        self.collector = Collector(
            self.statistics, self.pool.residents, self.batcher, self.cache, lambda: self.deriver.pending
        )
        self._clock = clock_of(database, settings.names_s)
        self.lookup = Lookup(database, self._clock)
        self._unloaded: set[str] = set()
        # Set when the process was asked to end: it still answers, but should be asked no more.
        self.draining = threading.Event()

    def close(self) -> None:
        """End the threads and give the memory back."""
        self.batcher.close()
        self.deriver.close()
        self.cache.clear()
        self.pool.close()
        self._clock.close()

    def check_up(self) -> None:
        """Make sure that this process can be asked.

        Raises:
            Unavailable: it is ending, the database does not answer, or has another schema.
        """
        if self.draining.is_set():
            raise Unavailable("This process is ending, and still answers")
        check_head(self.database)

    def find(self, name: str, version: str | None = None) -> Model:
        """What a path names now; see `serving.models.find`. May wait for the database."""
        return self.lookup.cached(name, version) or self.lookup.find(name, version)

    async def found(self, name: str, version: str | None = None) -> Model:
        """The same from the event loop, which never waits for the database."""
        known = self.lookup.cached(name, version)
        return known if known is not None else await run_in_threadpool(self.lookup.find, name, version)

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
        total_s = time.perf_counter() - began
        self.statistics.succeeded(model.name, model.version, rows, total_s, steps_s)
        if total_s > self.settings.slow_request_s:
            timings = {f"{step}_ms": round(1000 * seconds, 1) for step, seconds in steps_s.items()}
            log.warning("slow request", model=model.key, rows=rows, total_ms=round(1000 * total_s, 1), **timings)

    async def ask(self, model: Model, question: Question, gone: Gone | None = None) -> Answer:
        """Run a question through the model; what every transport calls, between reading and writing.

        Args:
            gone: returns when nobody waits for the answer any more.

        Raises:
            InferenceRefused: the nets cannot run on these sizes, or would take too much.
            Unavailable: unloaded, not ready, or too much waits already; `deadline_exceeded`.
        """
        self._refuse_unloaded(model.key)
        model = model.asked(question.wanted)
        came = time.perf_counter()
        await self.sizes.settle(model, question)
        nets = self.pool.take(model.parts, model.key)
        if nets is None:
            async with AsyncExitStack() as stack:
                held = stack.enter_async_context(self._held(model, len(question.x)))
                loaded = await in_time(held, question.timeout_s)
                waited_s = time.perf_counter() - came
                return _answer(model, await self.batcher.ask(Job(model, question, loaded), gone, came), waited_s)
        try:
            return _answer(model, await self.batcher.ask(Job(model, question, nets), gone), 0.0)
        finally:
            self.pool.give(model.parts)

    @asynccontextmanager
    async def _held(self, model: Model, rows: int = 1) -> AsyncIterator[dict[str, Part]]:
        """The model's modules, for a question of so many rows. Those who wait for loading are counted apart, so that they keep nobody else out."""
        async with AsyncExitStack() as stack:
            with nullcontext() if self.pool.has(model.parts) else self.loading.entered(rows):
                nets = await stack.enter_async_context(self.pool.hold(model.parts, model.key))
            yield nets

    async def load(self, name: str) -> Model:
        """Have a model in memory before it is asked, and undo an `unload`."""
        model = await self.found(name)
        async with self._held(model):
            self._unloaded.discard(model.key)
        return model

    async def example(self, model: Model) -> Array | None:
        """Zeros [1, ...] as the model's input; None where its sizes are free and its category module has no probe."""
        async with self._held(model) as nets:
            stated, probed = model.input.shape[1:], nets[model.category].sizes
        sizes = stated if -1 not in stated else probed
        known = sizes is not None and len(sizes) == len(stated) and model.input.datatype in DTYPES
        return np.zeros([1, *sizes], DTYPES[model.input.datatype]) if known and sizes is not None else None

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
        missing = [digest for digest in sorted(model.files) if not self.store.exists(digest)]
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
        delay_us = int(1_000_000 * self._delay_s(model.name))
        return documents.config(model, self._versions(model, name, version), self.settings.infer_batch, kind, delay_us)

    def stats(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Triton's statistics: of everything that was asked, of one name, or of one version."""
        wanted = self.statistics.known()
        if name is not None:
            model = self.find(name, version)
            one = (model.name, model.version)
            alone = version is not None or parse_reference(name).name != name
            wanted = [one] if alone else sorted({one, *(key for key in wanted if key[0] == model.name)})
        return {"model_stats": [self.statistics.document(*key, self._memory(*key)) for key in wanted]}

    def index(self, ready_only: bool = False) -> list[IndexEntry]:
        """Networks, the category modules that they are composed of, and generic networks: every version that can be asked."""
        with self.database.read() as session:
            found = [version for _, versions in catalogue.served_networks(session) for version in versions]
            found += catalogue.served_categories(session)
            entries = [self._entry(version) for version in found]
            entries += [self._generic(each) for each in generics.served(session)]
        return [entry for entry in entries if entry.state == "READY" or not ready_only]

    def _entry(self, version: Version) -> IndexEntry:
        parts = version.parts or {}
        # A network with clones is held under its own digest.
        digests = [version.digest] if not parts or "clones" in parts else list(parts.values())
        reason = self._trouble(version.ref, digests)
        state = "UNAVAILABLE" if reason else "READY"
        return IndexEntry(name=version.module.name, version=str(version.number), state=state, reason=reason)

    def _generic(self, found: generics.Served) -> IndexEntry:
        reason = self._trouble(found.name, found.parts) if found.parts else "no cell of it has a network yet"
        state = "UNAVAILABLE" if reason else "READY"
        return IndexEntry(name=found.name, version=str(found.number), state=state, reason=reason)

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
        if version is not None or name != model.name or model.unready is not None:
            return [model.version]
        with self.database.read() as session:
            return [str(number) for number in catalogue.version_numbers(session, model.name)]

    def _memory(self, name: str, version: str) -> list[dict[str, Any]]:
        keys = {f"{name}:{version}", name}  # a generic network keeps its memory whatever its version
        size = sum(part.size_bytes for part in self.pool.residents() if keys & part.owners)
        kind = "GPU" if self.device.type == "cuda" else "CPU"
        return [{"type": kind, "id": self.device.index or 0, "byte_size": size}]

    def _load(self, digest: str) -> tuple[Part, int]:
        part = self.deriver.kept(digest)
        if part is None:
            part = parts.load(self.store, digest, self.device)
            if not part.whole:
                self.deriver.want(part)
        return part, part.size_bytes

    def _run(self, jobs: Sequence[Job]) -> tuple[list[dict[str, Array]], Took]:
        outputs, took = joint.run(jobs, self.device, self.cache)
        self.statistics.ran(_rows_by_model(jobs), took)
        return outputs, took

    def _delay_s(self, name: str) -> float:
        return self.settings.infer_delay_ms.get(name, 0.0) / 1000

    def _prepare(self) -> None:
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)


def _answer(model: Model, done: Done, waited_s: float) -> Answer:
    took = done.took
    steps_s = {
        "queue": waited_s + done.queue_s,
        "compute_input": took.input_s,
        "compute_infer": took.infer_s,
        "compute_output": took.output_s,
    }
    return Answer(model, done.outputs, steps_s)


def _rows_by_model(jobs: Sequence[Job]) -> Mapping[tuple[str, str], int]:
    rows: dict[tuple[str, str], int] = {}
    for job in jobs:
        key = (job.model.name, job.model.version)
        rows[key] = rows.get(key, 0) + len(job.question.x)
    return rows


def _reason(error: Exception) -> str:
    if isinstance(error, ClientDisconnect):
        return "CANCELED"
    if isinstance(error, Unavailable | StoreError):
        return "REJECTED"
    return "OTHER" if isinstance(error, InferenceRefused | GrafteryError) else "BACKEND"

"""Pre-checks: made in child processes, kept in memory by what they depend on, waited for no longer than is allowed.

The same children measure networks that are composed by hand; that is waited for.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import structlog
from sqlalchemy.orm import Session

from app.files.verifier import command
from app.requests.parts import manifest_of
from graftery.errors import GrafteryError, ModuleFileError, StoreError, Unavailable
from graftery.spec.fit import output_of
from graftery.spec.manifest import json_of
from graftery.spec.recipes import PRECHECK_NEIGHBOURS, AdapterRecipe, TransplantRecipe
from graftery.spec.wire import PrecheckOut
from registry import catalogue
from registry.catalogue import NetworkVersions
from registry.children import Children
from registry.models import Version
from registry.settings import Settings
from registry.store import Store

log = structlog.get_logger("graftery.prechecks")

COMMAND = command("graftery.transplant.prechecking")
KEPT = 1000
WAITING = 64
"""More than so many at once are not taken on."""
_NETWORKS_LOOKED_AT = 50


@dataclass(frozen=True)
class Wanted:
    """All that a pre-check depends on.

    Args:
        category, task: digests.
        neighbours: the network's reference, and the digests of its category and adapter.
        recipe: JSON of a `TransplantRecipe`.
        teacher_task: the digest of gT, where only the modules themselves tell how large outputs are.
    """

    category: str
    task: str
    neighbours: tuple[tuple[str, str, str | None], ...]
    recipe: str
    teacher_task: str | None = None

    @property
    def seed(self) -> int:
        return TransplantRecipe.model_validate_json(self.recipe).seed


@dataclass(frozen=True)
class _Found:
    """What came of one; `passing`: what stood in its way may not be there next time."""

    values: dict[str, Any]
    passing: bool = False


def wanted(session: Session, parts: Mapping[str, Version], adapter: AdapterRecipe, seed: int) -> Wanted:
    """The pre-check of f and gS beside those that feed gS now. Of the recipe it has seed and adapter alone.

    Args:
        parts: `category`, `task` and, where it is known, `teacher_task`.
    """
    category, task, own = parts["category"], parts["task"], parts.get("teacher_task")
    stated = manifest_of(category)
    near: dict[str, tuple[str, NetworkVersions]] = {}
    for network, versions in catalogue.networks_with_task(session, task, _NETWORKS_LOOKED_AT):
        other = manifest_of(versions.category)
        alike = (other.input, other.preprocessing) == (stated.input, stated.preprocessing)
        if alike and versions.category.digest != category.digest:
            near.setdefault(versions.category.digest, (network.ref, versions))
    neighbours = tuple(
        (ref, versions.category.digest, None if versions.adapter is None else versions.adapter.digest)
        for ref, versions in list(near.values())[:PRECHECK_NEIGHBOURS]
    )
    recipe = TransplantRecipe(seed=seed, adapter=adapter)
    sizing = None if own is None or not _free_outputs(task, own) else own.digest
    return Wanted(category.digest, task.digest, neighbours, recipe.model_dump_json(), sizing)


def _free_outputs(*tasks: Version) -> bool:
    """Whether the size of an output is free: then the manifests do not tell whether two are of one size."""
    return any(isinstance(size, str) for task in tasks for size in output_of(manifest_of(task)).shape[1:])


def children(settings: Settings) -> Children | None:
    """The children that the settings ask for."""
    return Children(settings.limits, settings.prechecks, COMMAND, "the pre-check") if settings.prechecks else None


class Prechecks:
    """Makes each pre-check once, as many at a time as there are children.

    Args:
        children: that make them; None: none is made.
        size: how many children there are.
    """

    def __init__(self, store: Store, children: Children | None, size: int = 1) -> None:
        self._store = store
        self._children = children
        self._threads = ThreadPoolExecutor(size, "precheck")
        # Who waits for a measurement waits here, and holds no thread.
        self._measuring = anyio.CapacityLimiter(size)
        self._asked: OrderedDict[Wanted, Future[_Found]] = OrderedDict()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to warm the children."""
        if self._children is not None:
            self._children.start()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._children is not None:
            self._children.close()

    async def look(self, asked: Wanted, wait_s: float) -> PrecheckOut:
        """The pre-check if it is there within `wait_s`; else that it is being made, or why it is not. Never raises."""
        future = self._future(asked)
        if isinstance(future, str):
            return PrecheckOut(status="unavailable", reason=future, seed=asked.seed)
        if not future.done():
            await asyncio.wait({asyncio.wrap_future(future)}, timeout=wait_s)
        if not future.done() or future.cancelled():
            return PrecheckOut(status="running", seed=asked.seed)
        return PrecheckOut.model_validate({"seed": asked.seed, **future.result().values})

    async def measure(self, category: str, files: Mapping[str, str]) -> dict[str, Any]:
        """How good a network is (`graftery.transplant.recombining`).

        Args:
            category: digest of f.
            files: role to digest: `task`, `samples`, perhaps `adapter` and `own`.

        Raises:
            Unavailable: nothing is measured here, or no child could be started.
            ModuleFileError: with the child's code; `verify_limit` where it took too long or too much.
            StoreError: bytes are missing.
        """
        if self._children is None:
            raise Unavailable(
                "this service measures no networks (GRAFTERY_PRECHECKS is 0)", hint="leave evaluate_on out"
            )
        return await anyio.to_thread.run_sync(
            partial(self._measure, self._children, category, files), limiter=self._measuring
        )

    def _measure(self, children: Children, category: str, files: Mapping[str, str]) -> dict[str, Any]:
        paths = {role: self._path(digest) for role, digest in files.items()}
        try:
            return children.ask("recombination", self._path(category), files=paths)
        except ModuleFileError as error:
            if error.code == "verify_limit":
                error.message = f"the network could not be measured: {error.message}"
                error.hint = "give fewer samples in evaluate_on, or raise the service's limits"
            raise

    def _future(self, asked: Wanted) -> Future[_Found] | str:
        """What is kept, under way, or now begun; or why it is not begun."""
        if self._children is None:
            return "this service makes no pre-checks (GRAFTERY_PRECHECKS is 0)"
        with self._lock:
            known = self._asked.get(asked)
            if known is not None and not (known.done() and known.result().passing):
                self._asked.move_to_end(asked)
                return known
            if sum(not future.done() for future in self._asked.values()) >= WAITING:
                return "too many pre-checks are waiting: ask again later"
            try:
                future = self._threads.submit(self._make, self._children, asked)
            except RuntimeError:  # the app is ending
                return "the service is ending"
            self._asked[asked] = future
            while len(self._asked) > KEPT:
                self._asked.popitem(last=False)
            return future

    def _make(self, children: Children, asked: Wanted) -> _Found:
        try:
            files = {"task": self._path(asked.task)}
            files |= {} if asked.teacher_task is None else {"teacher_task": self._path(asked.teacher_task)}
            for index, (_, category, adapter) in enumerate(asked.neighbours):
                files[f"{index}.category"] = self._path(category)
                files |= {} if adapter is None else {f"{index}.adapter": self._path(adapter)}
            names = [name for name, *_ in asked.neighbours]
            recipe = json_of(TransplantRecipe.model_validate_json(asked.recipe))
            path = self._path(asked.category)
            found = children.ask("precheck", path, files=files, neighbours=names, recipe=recipe)
            return _Found({"status": "ready", **found})
        except Exception as error:  # what is kept must never raise
            log.warning("precheck_failed", error=str(error))
            passing = isinstance(error, Unavailable | StoreError) or not isinstance(error, GrafteryError)
            return _Found({"status": "unavailable", "reason": str(error)}, passing)

    def _path(self, digest: str) -> str:
        return str(self._store.local_path(digest))

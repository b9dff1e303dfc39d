"""A registry with the two modules that a transplant joins, and jobs for workers whose child only counts."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from graftery.spec.manifest import Kind, json_of
from graftery.spec.wire import JobEvent, JobOut
from registry import catalogue, jobs
from registry.db import Database
from registry.models import Module, Version
from registry.settings import Settings
from registry.store import Store
from tests.support.processes import eventually

if TYPE_CHECKING:
    from graftery.module import ModuleFile

# For tests whose SQL is not the point: they run on SQLite only.
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SHAPE: dict[str, Any] = {"dtype": "float32", "shape": ["N", 4]}


@dataclass
class Workplace:
    settings: Settings
    database: Database
    store: Store

    @classmethod
    def of(cls, settings: Settings) -> Workplace:
        """The database is there; put a category module `cat` and a task module `is` into it."""
        place = cls(settings, Database(settings.database), Store(settings))
        kinds: tuple[tuple[str, Kind], ...] = (("cat", "category"), ("is", "task"))
        for name, kind in kinds:
            blob = place.store.put_bytes(f"the file of {name}".encode())
            manifest = {"kind": kind, "input": SHAPE, "outputs": {"out": SHAPE}}
            with place.database.transaction() as session:
                catalogue.publish(session, name=name, kind=kind, blob=blob, manifest=manifest)
        return place

    def put(self, name: str, kind: Kind, file: ModuleFile) -> None:
        """Publish a module file."""
        with tempfile.TemporaryDirectory() as folder:
            file.save(Path(folder) / "module")
            blob = self.store.put_file(Path(folder) / "module")
        with self.database.transaction() as session:
            catalogue.publish(session, name=name, kind=kind, blob=blob, manifest=json_of(file.manifest))

    def submit(self, name: str = "net", alias: str | None = None, **script: Any) -> str:
        """Queue a transplant that does what the script says (`tests.support.busy_child`)."""
        return self.submit_pinned(name, {"category": "cat", "task": "is"}, script, alias)

    def submit_pinned(self, name: str, parts: dict[str, str], recipe: dict[str, Any], alias: str | None = None) -> str:
        """Queue a transplant of these parts."""
        request = {"name": name, **parts, **({"alias": alias} if alias else {})}
        with self.database.transaction() as session:
            pinned = {role: catalogue.resolve(session, ref).pin for role, ref in parts.items()}
            return jobs.submit(session, kind="transplant", request=request, pinned=pinned, recipe=recipe).id

    def job(self, job_id: str) -> JobOut:
        with self.database.read() as session:
            return jobs.job_out(jobs.get(session, job_id))

    def events(self, job_id: str) -> list[JobEvent]:
        with self.database.read() as session:
            return jobs.events_after(session, job_id, 0, 10_000)

    def comes_to(self, job_id: str, state: str, within_s: float = 20.0) -> bool:
        return eventually(lambda: self.job(job_id).state == state, within_s)

    def reaches_step(self, job_id: str, step: int, within_s: float = 20.0) -> bool:
        """Whether a checkpoint at this step or after it is kept in time."""
        return eventually(lambda: (self.job(job_id).checkpoint_step or 0) >= step, within_s)

    def versions_of(self, name: str) -> list[str]:
        """References of all versions of a name, the newest first; none where there is no such name."""
        with self.database.read() as session:
            rows = session.scalars(select(Version).join(Module).where(Module.name == name).order_by(Version.id.desc()))
            return [version.ref for version in rows]

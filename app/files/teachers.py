"""What a teacher net becomes: its own file, a category module, and for each output a task module and a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.deps import Service
from app.files.arrivals import keep_quota
from app.files.verifier import Checked, CheckedPart, Split
from app.requests.members import group_metrics
from graftery.errors import Conflict
from graftery.spec.manifest import Kind, NetworkParts, Role
from graftery.spec.wire import TeacherOut, VersionOut
from registry import catalogue
from registry.models import Version
from registry.store import Blob, Store


@dataclass(frozen=True)
class Blobs:
    """The bytes of every part, in the store; tasks and networks by output."""

    teacher: Blob
    category: Blob
    tasks: dict[str, Blob]
    networks: dict[str, Blob]


def names_of(name: str, outputs: Iterable[str]) -> dict[str, tuple[Kind, ...]]:
    """The names that a teacher takes, and their kinds.

    Raises:
        Conflict: `kind_conflict`: two of them are the same, because of what the outputs are called.
    """
    wanted: list[tuple[str, Kind]] = [(name, "category"), (f"{name}-teacher", "teacher")]
    for output in outputs:
        wanted += [(f"{name}-{output}", "task"), (f"{name}-{output}-teacher", "network")]
    found: dict[str, tuple[Kind, ...]] = {each: (kind,) for each, kind in wanted}
    if len(found) < len(wanted):
        twice = sorted({each for each, _ in wanted if [other for other, _ in wanted].count(each) > 1})
        raise Conflict(
            f"two parts of the teacher would have the name {twice[0]}",
            code="kind_conflict",
            hint="give the net's outputs other names: NAME-OUTPUT is a task, NAME-teacher the net",
        )
    return found


def store_parts(store: Store, teacher: Callable[[], Blob], split: Split) -> Blobs:
    """Bytes first: put every part into the store; `teacher` does it for the net's own file."""
    category = store.put_file(split.category.path)
    tasks = {output: store.put_file(task.path) for output, task in split.tasks.items()}
    networks = {
        output: store.put_bytes(catalogue.compose_document(NetworkParts(category=category.digest, task=task.digest)))
        for output, task in tasks.items()
    }
    return Blobs(teacher(), category, tasks, networks)


def publish(
    service: Service,
    name: str,
    split: Split,
    blobs: Blobs,
    description: str | None,
    *,
    upload: str | None = None,
    seen: Mapping[Path, dict[str, Any] | None] = {},
) -> tuple[TeacherOut, bool]:
    """Rows second, all in one transaction. Gives what was published, and whether any of it is new.

    Args:
        upload: whose pieces the net was put together from.
        seen: the parts' metrics, by their paths (`app.members`).
    """
    with service.database.transaction() as session:
        publisher = _Publisher(session, seen)
        teacher = publisher.file(f"{name}-teacher", split.teacher, blobs.teacher)
        above: list[tuple[Role, int]] = [("teacher", teacher.id)]
        category = publisher.file(name, split.category, blobs.category, above, description)
        tasks, networks = {}, {}
        for output, task in split.tasks.items():
            tasks[output] = publisher.file(f"{name}-{output}", task, blobs.tasks[output], above)
            network_name = f"{name}-{output}-teacher"
            networks[output] = publisher.network(network_name, category, tasks[output], blobs.networks[output])
        out = TeacherOut(
            teacher=publisher.out(teacher),
            category=publisher.out(category),
            tasks={output: publisher.out(row) for output, row in tasks.items()},
            networks={output: publisher.out(row) for output, row in networks.items()},
        )
        if publisher.created:
            keep_quota(session, service.settings, name, upload)
        return out, publisher.created


class _Publisher:
    """Publishes in one session, and remembers whether anything was new."""

    def __init__(self, session: Session, seen: Mapping[Path, dict[str, Any] | None]) -> None:
        self._session = session
        self._seen = seen
        self.created = False

    def file(
        self,
        name: str,
        found: Checked,
        blob: Blob,
        parents: list[tuple[Role, int]] | None = None,
        description: str | None = None,
    ) -> Version:
        row, created = catalogue.publish(
            self._session,
            name=name,
            kind=found.manifest["kind"],
            blob=blob,
            manifest=found.manifest,
            facts=found.facts,
            parents=parents or (),
            metrics=self._seen.get(found.path) if isinstance(found, CheckedPart) else None,
            description=description,
        )
        self.created |= created
        return row

    def network(self, name: str, category: Version, task: Version, blob: Blob) -> Version:
        row, created = catalogue.publish(
            self._session,
            name=name,
            kind="network",
            blob=blob,
            parts=NetworkParts(category=category.digest, task=task.digest),
            parents=[("category", category.id), ("task", task.id)],
            metrics=group_metrics(category, task),
        )
        self.created |= created
        return row

    def out(self, row: Version) -> VersionOut:
        return catalogue.version_out(self._session, row)

"""Publishing: the one way in which a version comes to be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.errors import Conflict, StoreError
from graftery.spec.manifest import Kind, NetworkParts, Role, json_of
from graftery.spec.names import check_name
from registry.access import audit, caller
from registry.catalogue import blobs
from registry.catalogue.aliases import set_alias
from registry.catalogue.find import DEFAULT, changed, find_module, group_version, recount
from registry.models import Edge, Module, ModuleTag, Version
from registry.store import Blob


class NetworkVersions(NamedTuple):
    """The pinned versions of a network; clones in the order in which they add classes."""

    category: Version
    adapter: Version | None
    task: Version
    clones: tuple[Version, ...] = ()

    @property
    def members(self) -> dict[str, Version]:
        """All of them, by role; clones as `clone.0`, `clone.1`, ..."""
        chain = {"category": self.category, "adapter": self.adapter, "task": self.task}
        clones = {f"clone.{index}": clone for index, clone in enumerate(self.clones)}
        return {role: part for role, part in {**chain, **clones}.items() if part is not None}

    @property
    def parts(self) -> NetworkParts:
        return NetworkParts(
            category=self.category.digest,
            adapter=None if self.adapter is None else self.adapter.digest,
            task=self.task.digest,
            clones=tuple(clone.digest for clone in self.clones) or None,
        )

    @property
    def parents(self) -> list[tuple[Role, int]]:
        """Role and version id of each, as lineage has them."""
        chain: tuple[tuple[Role, Version | None], ...] = (
            ("category", self.category),
            ("adapter", self.adapter),
            ("task", self.task),
            *(("clone", clone) for clone in self.clones),
        )
        return [(role, part.id) for role, part in chain if part is not None]


_HEAD = b'{"format":"graftery.network/'


def compose_document(parts: NetworkParts) -> bytes:
    """A network's bytes in the store: canonical JSON, so that the same parts are the same network."""
    document = {"format": "graftery.network/1", "parts": json_of(parts)}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def read_document(path: Path) -> NetworkParts | None:
    """The parts of a network whose bytes these are; None for a module's file, which cannot begin so.

    Raises:
        StoreError: it is neither.
    """
    with path.open("rb") as file:
        if file.read(len(_HEAD)) != _HEAD:
            return None
        file.seek(0)
        try:
            return NetworkParts.model_validate(json.load(file)["parts"])
        except (ValueError, LookupError, TypeError) as error:
            raise StoreError(f"a network's document cannot be read: {error}") from error


def publish(
    session: Session,
    *,
    name: str,
    kind: Kind,
    blob: Blob,
    manifest: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    parents: Sequence[tuple[Role, int]] = (),
    parts: NetworkParts | None = None,
    metrics: dict[str, Any] | None = None,
    by: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
) -> tuple[Version, bool]:
    """Give bytes that are in the store a name and a number. Publishers of one name wait for each other.

    Args:
        parents: role and version id of what it was made from.
        parts: of a network; those that `parents` does not name are looked up by their digest.
        by: who publishes it; by default the caller.
        description: of the module, replaced if given; `tags` are the version's and are added to the module's.

    A network's first version becomes its `default`: what is served under the plain name moves only when it is asked to.

    Returns:
        The version, and whether it is new: a name that has these bytes already keeps the version that it has.

    Raises:
        Conflict: `kind_conflict`; `conflict` where these bytes were yanked under this name, or a part is unknown.
        Misfit: `group_mismatch`; the manifest names a compatibility group that is not here.
    """
    caller.check_name(check_name(name))
    blobs.touch(session, blob)
    module = take_name(session, name, kind)
    described = description is not None and description != module.description
    if description is not None:
        module.description = description
    described |= add_tags(session, module, tags)
    known = session.scalar(select(Version).where(Version.module_id == module.id, Version.digest == blob.digest))
    if known is not None:
        _refuse_yanked(known)
        if described:
            changed(module)
            audit.note(session, "describe", name, name, by=by)
        return known, False
    is_first = session.scalar(select(Version.id).where(Version.module_id == module.id).limit(1)) is None
    module.last_number += 1
    changed(module)
    version = Version(
        module=module,
        number=module.last_number,
        digest=blob.digest,
        manifest=manifest,
        facts=facts,
        parts=json_of(parts) if parts is not None else None,
        metrics=metrics,
        tags=sorted(set(tags)),
        created_by=audit.author(by),
    )
    session.add(version)
    recount(session, module)
    audit.note(session, "publish", version.ref, name, by=by, kind=kind, digest=blob.digest)
    _add_edges(session, version, [*parents, *_part_parents(session, parts, parents), *_groups(session, manifest)])
    if kind == "network" and is_first:  # perhaps not number 1: what was there may be deleted
        set_alias(session, name, DEFAULT, version.number, by)
    return version, True


def remeasure(session: Session, version: Version, metrics: dict[str, Any], by: str | None = None) -> None:
    """Replace what was measured of a version: a job came to its bytes again, and measured them on other samples."""
    if version.metrics != metrics:
        version.metrics = metrics
        changed(version.module)
        audit.note(session, "measure", version.ref, version.module.name, by=by)


def take_name(session: Session, name: str, kind: Kind) -> Module:
    """The name's row, made if need be, and locked."""
    values = {"name": name, "kind": kind}
    session.execute(blobs.upsert(session, Module).values(**values).on_conflict_do_nothing(index_elements=["name"]))
    module = find_module(session, name, lock=True)
    if module.kind != kind:
        raise Conflict(
            f"{name} is the name of a {module.kind}, so it cannot name a {kind}",
            code="kind_conflict",
            hint="choose another name",
        )
    return module


def add_tags(session: Session, module: Module, tags: Iterable[str]) -> bool:
    """Add tags to a module, where those it has stay; whether some are new."""
    rows = [{"module_id": module.id, "tag": tag} for tag in sorted(set(tags))]
    if not rows:
        return False
    statement = blobs.upsert(session, ModuleTag).values(rows).on_conflict_do_nothing()
    return bool(session.scalars(statement.returning(ModuleTag.tag)).all())


def _refuse_yanked(version: Version) -> None:
    if version.yanked_at is not None:
        raise Conflict(
            f"These bytes are {version.ref}, which was yanked: {version.yank_reason}",
            hint=f"unyank {version.ref} to use it again",
        )


def _part_parents(
    session: Session, parts: NetworkParts | None, parents: Sequence[tuple[Role, int]]
) -> list[tuple[Role, int]]:
    """The parts that the caller named by digest only."""
    if parts is None:
        return []
    named = {role for role, _ in parents}
    given = [(role, digest) for role, digest in parts.by_role() if role not in named]
    return [(role, _by_digest(session, role, digest)) for role, digest in given]


def _groups(session: Session, manifest: Mapping[str, Any] | None) -> list[tuple[Role, int]]:
    """The compatibility group that the manifest names: of all its parents it has to be here, as joining goes by it."""
    named = [each["digest"] for each in (manifest or {}).get("parents", ()) if each["role"] == "group"]
    return [("group", group_version(session, digest).id) for digest in named]


def _by_digest(session: Session, kind: Role, digest: str) -> int:
    query = select(Version.id).join(Module).where(Version.digest == digest, Module.kind == kind)
    found = session.scalar(query.order_by(Version.id.desc()).limit(1))
    if found is None:
        raise Conflict(f"There is no {kind} module with sha256 {digest}")
    return found


def _add_edges(session: Session, version: Version, parents: Iterable[tuple[Role, int]]) -> None:
    session.add_all(Edge(child_id=version.id, parent_id=parent, role=role) for role, parent in dict.fromkeys(parents))
    session.flush()

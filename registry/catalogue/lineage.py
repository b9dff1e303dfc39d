"""Lineage: what a version was made from, what was made of it, and the parts of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Select, Subquery, and_, func, literal, or_, select
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.elements import ColumnElement

from graftery.errors import Conflict
from graftery.spec.lineage import Direction, LineageEdge, LineageNode, LineageOut
from registry.catalogue.find import DEFAULT, resolve
from registry.catalogue.outs import aliases_of
from registry.catalogue.publish import NetworkVersions
from registry.models import Alias, Edge, Module, Version

_BOTH: dict[Direction, tuple[Direction, ...]] = {"up": ("up",), "down": ("down",), "both": ("up", "down")}


def lineage(session: Session, ref: str, direction: Direction, depth: int = 20) -> LineageOut:
    """Everything within `depth` steps: `up` to what it was made from, `down` to what was made of it, or `both` as one graph.

    The graph of both has every edge between its nodes: also from what it was made from to what was made of it.
    """
    root = resolve(session, ref)
    walks = [_walk(root.id, way, depth) for way in _BOTH[direction]]
    found = or_(*(Version.id.in_(select(walk.c.id)) for walk in walks))
    # Columns alone: manifests and facts of a large graph are megabytes that nobody looks at.
    columns = (Version.id, Version.module_id, Module.name, Version.number, Module.kind, Version.digest)
    query = select(*columns, Version.yanked_at.is_not(None)).join(Module, Module.id == Version.module_id).where(found)
    rows = session.execute(query.order_by(Version.id)).all()
    aliases = aliases_of(session, select(Version.module_id).where(found))
    refs = {row[0]: f"{row[2]}:{row[3]}" for row in rows}
    edges = session.execute(
        select(Edge.child_id, Edge.parent_id, Edge.role)
        .where(_within(walks[0], direction, depth) if len(walks) == 1 else _between(walks))
        .order_by(Edge.child_id, Edge.role, Edge.parent_id)
    )
    return LineageOut(
        root=root.ref,
        direction=direction,
        nodes=[
            LineageNode(
                ref=refs[version_id],
                kind=kind,
                digest=digest,
                yanked=yanked,
                aliases=[alias for alias, at in aliases[module_id].items() if at == number],
            )
            for version_id, module_id, _, number, kind, digest, yanked in rows
        ],
        edges=[edge_out(refs, Step(*edge)) for edge in edges],
    )


class Step(NamedTuple):
    """An edge's columns."""

    child: int
    parent: int
    role: str


def edge_out(refs: Mapping[int, str], step: Step) -> LineageEdge:
    """An edge as it crosses HTTP."""
    return LineageEdge.model_validate({"child": refs[step.child], "parent": refs[step.parent], "role": step.role})


def _within(walk: Subquery, direction: Direction, depth: int) -> ColumnElement[bool]:
    """Edges that the walk took, and no others."""
    here = Edge.child_id if direction == "up" else Edge.parent_id
    return here.in_(select(walk.c.id).where(walk.c.depth < depth))


def _between(walks: Sequence[Subquery]) -> ColumnElement[bool]:
    """Edges with both ends in one of the walks."""
    ends = (or_(*(end.in_(select(walk.c.id)) for walk in walks)) for end in (Edge.child_id, Edge.parent_id))
    return and_(*ends)


def _walk(root_id: int, direction: Direction, depth: int) -> Subquery:
    """Rows (id, depth) of the versions that can be reached, the root at depth 0."""
    root = select(Version.id, literal(0).label("depth")).where(Version.id == root_id)
    walk = root.cte(recursive=True)
    here, there = (Edge.child_id, Edge.parent_id) if direction == "up" else (Edge.parent_id, Edge.child_id)
    step = select(there, walk.c.depth + 1).join(walk, here == walk.c.id).where(walk.c.depth < depth)
    walk = walk.union(step)  # UNION, not UNION ALL: a version that is reached in two ways is walked from once
    return select(walk).subquery()


def made_of(roots: Select[int]) -> Select[int]:
    """The ids of versions, of all that was made of them, directly or not, to be asked for within a query."""
    walk = roots.cte(recursive=True)
    found = walk.union(select(Edge.child_id).join(walk, Edge.parent_id == walk.c[0]))
    return select(found.c[0])


def network_parts(session: Session, version: Version) -> NetworkVersions:
    """The versions that a network is composed of.

    Raises:
        Conflict: `kind_mismatch`: the version is no network.
    """
    if version.parts is None:
        raise Conflict(f"{version.ref} is a {version.module.kind}, not a network", code="kind_mismatch")
    query = select(Edge.role, Version).join(Version, Version.id == Edge.parent_id).where(Edge.child_id == version.id)
    found = {(role, part.digest): part for role, part in session.execute(query)}
    parts = version.parts
    clones = tuple(found["clone", digest] for digest in parts.get("clones") or ())
    adapter = found["adapter", parts["adapter"]] if "adapter" in parts else None
    return NetworkVersions(found["category", parts["category"]], adapter, found["task", parts["task"]], clones)


def teacher_tasks(session: Session, category: Version) -> list[Version]:
    """The task modules that were cut from the same teacher as the category module, by name; not the yanked ones."""
    own, other = aliased(Edge), aliased(Edge)
    query = (
        select(Version)
        .join(Module)
        .join(other, other.child_id == Version.id)
        .join(own, own.parent_id == other.parent_id)
        .where(own.child_id == category.id, own.role == "teacher", other.role == "teacher")
        .where(Module.kind == "task", Version.yanked_at.is_(None))
    )
    return list(session.scalars(query.order_by(Module.name, Version.number)))


def own_categories(session: Session, task: Version) -> list[Version]:
    """The category modules that a task module was trained with, as far as is known: cut from the same net at the same layer.

    Those that were cut here come first, then those of the same compatibility group that were cut elsewhere; of each the newest first. Not
    the yanked ones.
    """
    origin = _cut_from(task)
    own, other = aliased(Edge), aliased(Edge)
    query = (
        select(Version)
        .join(Module)
        .join(other, other.child_id == Version.id)
        .join(own, own.parent_id == other.parent_id)
        .where(own.child_id == task.id, own.role == other.role, own.role.in_(("teacher", "group")))
        .where(Module.kind == "category", Version.yanked_at.is_(None))
        .order_by(own.role.desc(), Version.id.desc())
    )
    found = session.scalars(query) if origin is not None else ()
    return list(dict.fromkeys(version for version in found if _cut_from(version) == origin))


def _cut_from(part: Version) -> tuple[str, str] | None:
    """Of a module that was cut from a net: what the net computes, as a digest, and the layer."""
    manifest = part.manifest or {}
    nets = [each["digest"] for each in manifest.get("parents", ()) if each["role"] == "teacher"]
    return (nets[0], manifest["cut"]) if nets and manifest.get("cut") else None


def teachers_of(session: Session, part: Version) -> list[int]:
    """The ids of the teachers that a category or task module was cut from."""
    query = select(Edge.parent_id).where(Edge.child_id == part.id, Edge.role == "teacher")
    return list(session.scalars(query.order_by(Edge.parent_id)))


def networks_of(session: Session, category: Version) -> list[Version]:
    """The networks, by name, whose name now leads to a version that is composed of this category module.

    One query, however many there are. Where `default` is on a yanked version, the name leads nowhere.
    """
    made = select(Edge.child_id).where(Edge.parent_id == category.id, Edge.role == "category")
    names = select(Version.module_id).where(Version.id.in_(made), Version.yanked_at.is_(None))
    of_name, default = aliased(Version), select(Alias.version_id).where(Alias.alias == DEFAULT)
    newest = select(of_name.id).where(of_name.yanked_at.is_(None)).order_by(of_name.number.desc()).limit(1)
    now = func.coalesce(
        default.where(Alias.module_id == Module.id).correlate(Module).scalar_subquery(),
        newest.where(of_name.module_id == Module.id).correlate(Module).scalar_subquery(),
    )
    current = select(now).where(Module.kind == "network", Module.id.in_(names))
    query = select(Version).join(Module).where(Version.id.in_(current), Version.yanked_at.is_(None))
    served = session.scalars(query.order_by(Module.name))
    return [network for network in served if (network.parts or {}).get("category") == category.digest]


def networks_with_task(session: Session, task: Version, limit: int) -> list[tuple[Version, NetworkVersions]]:
    """Networks with this task module's bytes and their parts: first those without an adapter, then the newest.

    Yanked ones are left out.
    """
    made = select(Edge.child_id).join(Version, Version.id == Edge.parent_id)
    made = made.where(Version.digest == task.digest, Edge.role == "task")
    adapted = select(Edge.child_id).where(Edge.child_id == Version.id, Edge.role == "adapter").exists()
    query = select(Version).where(Version.id.in_(made), Version.parts.is_not(None), Version.yanked_at.is_(None))
    found = session.scalars(query.order_by(adapted, Version.id.desc()).limit(limit))
    return [(network, network_parts(session, network)) for network in found]


def served_categories(session: Session) -> list[Version]:
    """The category modules that a network is composed of, by name and number; not the yanked ones."""
    child = aliased(Version)
    made = select(Edge.parent_id).join(child, child.id == Edge.child_id)
    made = made.where(Edge.role == "category", child.parts.is_not(None), child.yanked_at.is_(None))
    query = select(Version).join(Module).where(Version.id.in_(made), Version.yanked_at.is_(None))
    return list(session.scalars(query.order_by(Module.name, Version.number)))

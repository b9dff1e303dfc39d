"""Impact: what is touched where a version, or all versions of a name, is yanked, and whether a delete would be refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session, aliased

from graftery.spec.impact import CellImpact, DeleteImpact, DependentImpact, ImpactOut, JobImpact
from registry.catalogue.find import find_module, resolve
from registry.catalogue.lineage import Step, made_of
from registry.catalogue.pins import pinning_jobs
from registry.catalogue.removal import dependents, exact, keeping
from registry.catalogue.touched import Family, Known, touched_names
from registry.models import Edge, GenericCell, GenericMember, Module, Version

MOST = 1000
"""Names and dependents that are listed, each."""


def version_impact(session: Session, ref: str) -> ImpactOut:
    """What the version that a reference names now would take along.

    Raises:
        NotFound: `not_found`, or `yanked`: it is hidden from this name already.
    """
    return _of_version(session, resolve(session, ref))


def yank_impact(session: Session, ref: str) -> ImpactOut:
    """What `yank` of the same reference would touch. Nothing is changed or locked; what yank refuses is refused."""
    return _of_version(session, exact(session, ref, lock=False))


def name_impact(session: Session, name: str) -> ImpactOut:
    """What all versions of a name would take along.

    Raises:
        NotFound: with names like it in `near`.
    """
    module = find_module(session, name)
    subject = select(Version.id).where(Version.module_id == module.id)
    ids = list(session.scalars(subject.order_by(Version.id)))
    return _impact(session, module, subject, ref=name, refused_by=dependents(session, ids))


def cells_naming(session: Session, version_ids: Select[int]) -> list[CellImpact]:
    """The cells of generic networks that name one of the versions: what else than lineage and jobs does.

    Args:
        version_ids: of the subject and of all that was made of it, to be asked for within a query.
    """
    category, task = aliased(GenericMember), aliased(GenericMember)
    row, column = aliased(Module), aliased(Module)
    generic = GenericCell.generic_id
    query = (
        select(Module.name, row.name, column.name)
        .join(GenericCell, generic == Module.id)
        .join(row, row.id == GenericCell.category_id)
        .join(column, column.id == GenericCell.task_id)
        .join(category, (category.generic_id == generic) & (category.member_id == GenericCell.category_id))
        .join(task, (task.generic_id == generic) & (task.member_id == GenericCell.task_id))
        .where(GenericCell.version_id.is_not(None))
        .where(
            or_(
                GenericCell.version_id.in_(version_ids),
                category.version_id.in_(version_ids),
                task.version_id.in_(version_ids),
            )
        )
        .order_by(Module.name, category.place, task.place)
    )
    return [CellImpact(generic=found[0], category=found[1], task=found[2]) for found in session.execute(query)]


def _of_version(session: Session, version: Version) -> ImpactOut:
    subject = select(Version.id).where(Version.id == version.id)
    return _impact(session, version.module, subject, ref=version.ref, refused_by=keeping(session, version))


def _impact(session: Session, module: Module, subject: Select[int], *, ref: str, refused_by: list[str]) -> ImpactOut:
    below, ids = made_of(subject), set(session.scalars(subject))
    known = _known(session, below)
    ways = _ways(session, ids, below)
    family = Family(known, ids, ways, _newest_left(session, module, subject))
    names = touched_names(session, module, family, below)
    made = _made(family)
    return ImpactOut(
        ref=ref,
        name=module.name,
        kind=module.kind,
        yanked=all(known[one].yanked for one in ids) if ids else False,
        names=names[:MOST],
        dependents=[_dependent(family, version) for version in made[:MOST]],
        jobs=_jobs(session, family, below),
        cells=cells_naming(session, below),
        delete=DeleteImpact(refused=bool(refused_by), refused_by=refused_by),
        left_out=max(0, len(names) - MOST) + max(0, len(made) - MOST),
    )


def _known(session: Session, below: Select[int]) -> dict[int, Known]:
    """What there is to say of each version, the oldest first; no manifests."""
    columns = (Version.id, Version.module_id, Module.name, Version.number, Module.kind, Version.yanked_at.is_not(None))
    query = select(*columns).join(Module, Module.id == Version.module_id).where(Version.id.in_(below))
    return {row[0]: Known(*row) for row in session.execute(query.order_by(Version.id))}


def _newest_left(session: Session, module: Module, subject: Select[int]) -> str | None:
    """What the newest version of the name is without these."""
    query = select(Version).where(Version.module_id == module.id, Version.yanked_at.is_(None))
    version = session.scalar(query.where(Version.id.not_in(subject)).order_by(Version.number.desc()).limit(1))
    return None if version is None else version.ref


def _ways(session: Session, ids: Collection[int], below: Select[int]) -> dict[int, list[Step]]:
    """Of each version, the shortest way to it from one of these; of two as short, by the older version and the role."""
    query = select(Edge.child_id, Edge.parent_id, Edge.role).where(Edge.parent_id.in_(below))
    steps: dict[int, list[Step]] = {}
    for edge in session.execute(query.order_by(Edge.parent_id, Edge.role, Edge.child_id)):
        steps.setdefault(edge[1], []).append(Step(*edge))
    ways: dict[int, list[Step]] = {one: [] for one in sorted(ids)}
    reached = [*ways]
    for here in reached:  # grows while it is walked: the nearest first
        for step in steps.get(here, ()):
            if step.child not in ways:
                ways[step.child] = [*ways[here], step]
                reached.append(step.child)
    return ways


def _made(family: Family) -> list[Known]:
    """What was made of it, the nearest first."""
    made = [family.known[one] for one in family.ways if one not in family.subject]
    return sorted(made, key=lambda version: (len(family.ways[version.id]), version.id))


def _dependent(family: Family, version: Known) -> DependentImpact:
    return DependentImpact.model_validate(
        {
            "ref": version.ref,
            "kind": version.kind,
            "yanked": version.yanked,
            "effect": "still_served" if version.kind == "network" else "still_resolved",
            "why": family.why(version.id),
        }
    )


def _jobs(session: Session, family: Family, below: Select[int]) -> list[JobImpact]:
    rows = pinning_jobs(session, below)
    return [
        _job(job, [row[3] for row in group], family) for job, group in groupby(rows, key=lambda row: tuple(row[:3]))
    ]


def _job(job: tuple[str, ...], pinned: Sequence[int], family: Family) -> JobImpact:
    nearest = min(pinned, key=lambda one: (len(family.ways[one]), one))
    pins = [family.known[one].ref for one in pinned]
    return JobImpact.model_validate(
        {"id": job[0], "kind": job[1], "state": job[2], "pins": pins, "why": family.why(nearest)}
    )

"""Growing a generic network: the jobs that fill a teacher's missing cells, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from app.requests import transplants
from app.requests.growth import Growth, Wanted, plan
from graftery.spec.generic import GrowCell, GrowOut, GrowRequest
from graftery.spec.manifest import json_of
from graftery.spec.recipes import TransplantRecipe
from graftery.spec.wire import PrecheckOut
from registry import generics, jobs
from registry.models import Job


def submit(
    session: Session, name: str, request: GrowRequest, prechecks: Mapping[str, PrecheckOut]
) -> tuple[GrowOut, list[Job]]:
    """Add the row, and queue a job for each cell that is missing; what is there or under way stays as it is.

    Args:
        prechecks: by task, as far as they are known.

    Raises: as `plan` does, and queues nothing then.
    """
    growth = plan(session, name, request, lock=True)
    if request.dry_run:
        return _told(session, name, growth, prechecks, {}), []
    generics.add(session, name, [growth.category])
    queued: dict[str, tuple[Job, Job | None]] = {}
    generic = generics.find(session, name)
    there = generics.grid(session, generic)  # the row is in it now
    for each in growth.started:
        job = _queue(session, name, each, request, "cell")
        cell = there.cell(growth.category.module.name, each.task)
        generics.order(session, generic, cell, job.id, prechecks.get(each.task))
        queued[each.task] = job, _baseline(session, name, each, request)
    rows = [job for pair in queued.values() for job in pair if job is not None]
    return _told(session, name, growth, prechecks, queued), rows


def _queue(session: Session, name: str, each: Wanted, request: GrowRequest, role: str) -> Job:
    assert each.request is not None and each.planned is not None  # noqa: S101  what starts was planned
    single, planned = each.request, each.planned
    if role == "direct":
        single = single.model_copy(update={"name": f"{single.name}-direct", "recipe": _directly(single.recipe)})
        planned = transplants.plan(session, single)
    where = {
        "name": name,
        "category": each.cell.category.module.name,
        "task": each.task,
        "role": role,
        "accept": json_of(request.accept),
    }
    return transplants.submit(session, single, planned, generic=where)


def _directly(recipe: TransplantRecipe) -> TransplantRecipe:
    """The baseline of this recipe: the task's loss on labelled samples, through a frozen gS."""
    return recipe.model_copy(update={"objectives": {"direct": 1.0}, "sources": ()})


def _baseline(session: Session, name: str, each: Wanted, request: GrowRequest) -> Job | None:
    return _queue(session, name, each, request, "direct") if request.baseline else None


def _told(
    session: Session,
    name: str,
    growth: Growth,
    prechecks: Mapping[str, PrecheckOut],
    queued: Mapping[str, tuple[Job, Job | None]],
) -> GrowOut:
    """The answer: every cell of the row, and what becomes of it."""
    usual = jobs.usual_seconds(session, [each.cell.task.digest for each in growth.started])
    return GrowOut(
        name=name,
        category=growth.category.ref,
        dry_run=not queued and any(each.action == "start" for each in growth.cells),
        cells=[_cell(each, prechecks, queued, usual) for each in growth.cells],
    )


def _cell(
    each: Wanted,
    prechecks: Mapping[str, PrecheckOut],
    queued: Mapping[str, tuple[Job, Job | None]],
    usual: Mapping[str, float],
) -> GrowCell:
    job, baseline = queued.get(each.task, (None, None))
    row = each.cell.row
    running = row.job_id if row is not None and each.action == "running" else None
    plain = GrowCell(
        category=each.cell.category.module.name,
        task=each.task,
        action=each.action,
        reason=each.reason,
        order=each.order,
        network=each.name,
        job=job.id if job is not None else running,
        baseline=None if baseline is None else baseline.id,
        precheck=prechecks.get(each.task),
    )
    if each.planned is None:
        return plain
    return plain.model_copy(
        update={
            "flops": each.flops,
            "memory_bytes": transplants.memory(each.planned),
            "seconds": usual.get(each.cell.task.digest),
            "recipe": json_of(each.planned.recipe),
        }
    )

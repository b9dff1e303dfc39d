"""A request for several tasks: a transplant for each, as if it was asked for alone; all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from app.requests import transplants
from app.requests.parts import output_name
from app.requests.transplants import Planned
from graftery.errors import Conflict, GrafteryError
from graftery.spec.references import of_task, strays
from graftery.spec.wire import TransplantRequest
from registry import catalogue
from registry.models import Job, Version

_BY_TASK = ("teacher_task", "samples", "evaluate_on")
"""The fields that may be said by task."""


def submit(session: Session, request: TransplantRequest) -> list[Job]:
    """Queue the jobs of a request, in the order of its tasks. Raises as `plan` does, and queues none then."""
    return [transplants.submit(session, single, planned) for single, planned in plan(session, request)]


def plan(session: Session, request: TransplantRequest) -> list[tuple[TransplantRequest, Planned]]:
    """The transplants of a request, each with its plan.

    Raises:
        Conflict: two of them would have one name, or one teacher's task for both.
        GrafteryError: one of them cannot work, as `app.transplants.plan` says; of a list, with the task before it.
    """
    found = [(single, _planned(session, request, single)) for single in split(session, request)]
    _check_teachers(session, request, {single.task: planned.parts for single, planned in found})
    return found


def split(session: Session, request: TransplantRequest) -> list[TransplantRequest]:
    """One request a task, with what was said for that task; those of a list are called NAME-OUTPUT.

    Raises:
        NotFound: a category or task is not there.
        Conflict: two of them would make the same name.
        GrafteryError: `request_invalid`: something is said for a task that is not asked for.
    """
    catalogue.resolve(session, request.category, kinds={"category"}, for_pin=True)
    tasks = [request.task] if isinstance(request.task, str) else request.task
    outputs = [output_name(catalogue.resolve(session, task, kinds={"task"}, for_pin=True)) for task in tasks]
    _check_said(request, tasks)
    if isinstance(request.task, str):
        return [_single(request, request.task, request.name)]
    named = [f"{request.name}-{output}" for output in outputs]
    _check_names(tasks, named)
    return [_single(request, task, name) for task, name in zip(tasks, named, strict=True)]


def _single(request: TransplantRequest, task: str, name: str) -> TransplantRequest:
    own = {field: of_task(getattr(request, field), task) for field in _BY_TASK}
    return request.model_copy(update={**own, "task": task, "name": name})


def _planned(session: Session, request: TransplantRequest, single: TransplantRequest) -> Planned:
    try:
        return transplants.plan(session, single)
    except GrafteryError as error:
        if not isinstance(request.task, str):
            error.message = f"{single.task}: {error.message}"
        raise


def _check_said(request: TransplantRequest, tasks: Sequence[str]) -> None:
    for field in _BY_TASK:
        if other := strays(getattr(request, field), tasks):
            raise GrafteryError(
                f"{field} names {other[0]}, which is not asked for: task has {', '.join(tasks)}",
                code="request_invalid",
                hint="name the tasks as they stand in task",
            )


def _check_names(tasks: Sequence[str], named: Sequence[str]) -> None:
    """Refuse tasks that would make the same network or adapter."""
    makers: dict[str, str] = {}
    for task, name in zip(tasks, named, strict=True):
        for made in (name, f"{name}-adapter"):
            if made in makers:
                raise Conflict(
                    f"{makers[made]} and {task} would both make {made}: a network is called NAME-OUTPUT",
                    hint="ask for each in a request of its own, with a name of its own",
                )
            makers[made] = task


def _check_teachers(session: Session, request: TransplantRequest, found: Mapping[object, dict[str, Version]]) -> None:
    """Refuse one gT for two tasks, unless it is said for each of them."""
    said = request.teacher_task if isinstance(request.teacher_task, dict) else {}
    taught: dict[int, object] = {}
    for task, parts in found.items():
        own = parts.get("teacher_task")
        if own is None or task in said:
            continue
        if own.id in taught:
            choices = [each.ref for each in catalogue.teacher_tasks(session, parts["category"])]
            raise Conflict(
                f"{own.ref} would be the teacher's task for both {taught[own.id]} and {task}: "
                f"the teacher of {parts['category'].ref} has {', '.join(choices) or 'no task'}",
                hint="say in teacher_task, by task, which one means the same",
                choices=choices,
            )
        taught[own.id] = task

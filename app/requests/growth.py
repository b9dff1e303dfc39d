"""What growing a generic network comes to: which of a teacher's cells are missing, and whether they can be learned."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from app.requests import transplants
from app.requests.parts import facts_of, output_name
from app.requests.transplants import Planned
from graftery.errors import Conflict, GrafteryError, RecipeRefused
from graftery.spec.generic import GrowAction, GrowRequest
from graftery.spec.manifest import json_of
from graftery.spec.references import of_task, strays
from graftery.spec.wire import TransplantRequest
from registry import catalogue, generics, jobs
from registry.access import caller
from registry.generics import Cell, Grid
from registry.models import Job, Version

# Of a step: forth and back through what is learned, and back through a gradient (graftery.transplant.training).
_TASK_PASSES = 6


@dataclass(frozen=True)
class Wanted:
    """A cell of the teacher's row, and what becomes of it."""

    cell: Cell
    action: GrowAction
    reason: str | None = None
    name: str | None = None
    request: TransplantRequest | None = None
    planned: Planned | None = None
    order: int | None = None

    @property
    def task(self) -> str:
        return self.cell.task.module.name

    @property
    def flops(self) -> int | None:
        """About what the steps take: an inversion, the teacher's answers and the measuring come to it."""
        if self.planned is None:
            return None
        parts, recipe = self.planned.parts, self.planned.recipe
        tasks = [facts_of(parts[role]).flops_per_sample for role in ("task", "teacher_task") if role in parts]
        return recipe.steps * recipe.batch * (facts_of(parts["category"]).flops_per_sample + _TASK_PASSES * sum(tasks))


@dataclass(frozen=True)
class Growth:
    """What a request to grow comes to."""

    category: Version
    cells: tuple[Wanted, ...]

    @property
    def started(self) -> list[Wanted]:
        """The cells that get a job, in the order in which these are queued."""
        return sorted((each for each in self.cells if each.action == "start"), key=lambda each: each.order or 0)


def plan(session: Session, name: str, request: GrowRequest, *, lock: bool = False) -> Growth:
    """See which cells of the teacher are missing, and check that each of them can be learned.

    Raises:
        NotFound: a reference names nothing.
        Conflict: the teacher has a task that the network lacks, or lacks one that is asked for; the row is of another version.
        Misfit, RecipeRefused, SamplesRefused: a cell cannot be learned so.
    """
    caller.check_name(name)
    generic = generics.find(session, name, lock=lock)
    category = catalogue.resolve(session, request.category, kinds={"category"}, for_pin=True)
    there = generics.grid(session, generic)
    _check_row(there, category)
    columns = _columns(there, request)
    _check_said(request, [column.module.name for column in columns])
    _check_tasks(session, there, category, request)
    cells = [_wanted(session, there, category, column, request) for column in columns]
    _check_names(there, cells, request.baseline)
    return Growth(category, _ordered(cells))


def _check_row(there: Grid, category: Version) -> None:
    for row in there.categories:
        if row.module_id == category.module_id and row.id != category.id:
            raise Conflict(
                f"the cells of {row.module.name} in {there.generic.name} are of {row.ref}, not of {category.ref}",
                hint=f"grow with {row.ref}; or publish this version under a name of its own",
            )


def _columns(there: Grid, request: GrowRequest) -> list[Version]:
    if not there.tasks:
        raise Conflict(f"{there.generic.name} has no tasks yet", hint="add task modules to it first")
    if request.tasks is None:
        return there.tasks
    names = [column.module.name for column in there.tasks]
    for task in request.tasks:
        if task not in names:
            raise Conflict(
                f"{there.generic.name} has no task {task}: it has {', '.join(names[:20])}",
                hint="name tasks as they stand in the network, or add this one to it",
                choices=names,
            )
    return [column for column in there.tasks if column.module.name in request.tasks]


def _check_said(request: GrowRequest, columns: Sequence[str]) -> None:
    for field in ("teacher_task", "samples", "evaluate_on"):
        if other := strays(getattr(request, field), columns):
            raise GrafteryError(
                f"{field} names {other[0]}, which is not asked for: the tasks are {', '.join(columns[:20])}",
                code="request_invalid",
                hint="name the tasks as they stand in the network",
            )


def _wanted(session: Session, there: Grid, category: Version, column: Version, request: GrowRequest) -> Wanted:
    known = [row for row in there.categories if row.module_id == category.module_id]
    cell = there.cell(category.module.name, column.module.name) if known else Cell(category, column, None, None)
    if cell.network is not None:
        return Wanted(cell, "kept", name=cell.network.ref)
    job = None if cell.row is None or cell.row.job_id is None else jobs.get(session, cell.row.job_id)
    if job is not None and job.finished_at is None:
        return Wanted(cell, "running", name=job.request.get("name"))
    lacking = _lacking(session, category, column, request)
    if lacking is not None:
        return Wanted(cell, "no_teacher", reason=lacking)
    if request.baseline and of_task(request.samples, column.module.name) is None:
        raise RecipeRefused(
            f"a baseline learns from labelled samples, and there are none for {column.module.name}",
            code="samples_missing",
            hint="name samples, or leave baseline out",
        )
    single = _single(there, cell, request)
    planned = transplants.plan(session, single)
    if job is not None and cell.row is not None and cell.row.rejected is not None and _is_same(job, planned, request):
        reason = (
            f"{cell.row.rejected['reason']}; the same job would end so again: change the recipe, the samples or accept"
        )
        return Wanted(cell, "rejected", reason=reason, name=cell.row.rejected["network"])
    return Wanted(cell, "start", name=single.name, request=single, planned=planned)


def _lacking(session: Session, category: Version, column: Version, request: GrowRequest) -> str | None:
    """Why nothing teaches this cell, where the column was not asked for by name; None: something does, or its plan says why not."""
    if request.tasks is not None or of_task(request.teacher_task, column.module.name) is not None:
        return None
    try:
        found = transplants.teacher_task_of(session, category, column, request.recipe)
    except Conflict as error:
        return error.message
    if found is None and of_task(request.samples, column.module.name) is None:
        return f"nothing is known of a teacher of {category.ref}, and there are no samples for {column.module.name}"
    return None


def _single(there: Grid, cell: Cell, request: GrowRequest) -> TransplantRequest:
    task = cell.task.module.name
    return TransplantRequest(
        name=_name(there, cell),
        category=cell.category.pin,
        task=cell.task.pin,
        teacher_task=of_task(request.teacher_task, task),
        samples=of_task(request.samples, task),
        unlabelled=request.unlabelled,
        evaluate_on=of_task(request.evaluate_on, task),
        recipe=request.recipe,
        force=request.force,
    )


def _name(there: Grid, cell: Cell) -> str:
    """What the cell's network is called: in the namespace of the generic network, by all three names."""
    return "-".join([there.generic.name, *(each.module.name.replace(".", "-") for each in (cell.category, cell.task))])


def _check_names(there: Grid, cells: Sequence[Wanted], baseline: bool) -> None:
    """Refuse cells that would make the same network or adapter, or one that another cell has: all-is, all.is, all-is-adapter."""
    makers: dict[str, Cell] = {}
    for other in there.cells:
        if other.network is not None:
            makers |= dict.fromkeys(_made(other.network.module.name, baseline=False), other)
        elif other.row is not None and other.row.job_id is not None:
            makers |= dict.fromkeys(_made(_name(there, other), baseline=False), other)
    for cell, name in ((each.cell, each.name) for each in cells if each.action == "start"):
        for made in _made(name or "", baseline):
            known = makers.setdefault(made, cell)
            if known.place != cell.place:
                raise Conflict(
                    f"the cells {_of(known)} and {_of(cell)} would both make {made}",
                    hint="rename one of the categories or tasks",
                )


def _made(name: str, baseline: bool) -> list[str]:
    """What a cell's jobs publish."""
    names = [name, f"{name}-direct"] if baseline else [name]
    return [*names, *(f"{each}-adapter" for each in names)]


def _of(cell: Cell) -> str:
    return f"{cell.category.module.name} and {cell.task.module.name}"


def _is_same(job: Job, planned: Planned, request: GrowRequest) -> bool:
    pins = {role: version.pin for role, version in planned.parts.items()}
    accept = job.request.get("generic", {}).get("accept")
    return job.pinned == pins and job.recipe == json_of(planned.recipe) and accept == json_of(request.accept)


def _check_tasks(session: Session, there: Grid, category: Version, request: GrowRequest) -> None:
    """Refuse a teacher with a task that the network lacks, unless the tasks are named that are meant."""
    if request.tasks is not None:
        return
    meant = {column.id for column in there.tasks}
    for column in there.tasks:
        with suppress(Conflict):  # it has not that task, which is no reason to refuse the others
            found = transplants.teacher_task_of(session, category, column, request.recipe)
            meant |= set() if found is None else {found.id}
    lacks = [task for task in catalogue.teacher_tasks(session, category) if task.id not in meant]
    if lacks:
        columns = [column.module.name for column in there.tasks]
        raise Conflict(
            f"{there.generic.name} lacks the teacher's task {output_name(lacks[0])!r} ({lacks[0].ref}): "
            f"it has {', '.join(columns[:20])}",
            hint="add a task module with this output to the network, or say in tasks which ones are meant",
            choices=columns,
        )


def _ordered(cells: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """The cheapest first, so that there is soon something to see."""
    costs = sorted((each.flops or 0, place) for place, each in enumerate(cells) if each.action == "start")
    orders = {place: order for order, (_, place) in enumerate(costs, 1)}
    return tuple(replace(each, order=orders.get(place)) for place, each in enumerate(cells))

"""/v1/networks and /v1/transplants: networks composed by hand, and the jobs that learn an adapter for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from app.deps import Posting, Service, ServiceDep
from app.edge.errors import problems
from app.requests import several, transplants
from app.requests.composing import Measured, compose, to_measure
from app.requests.prechecks import Wanted, wanted
from app.routes.jobs import accepted, accepted_all
from graftery.errors import Conflict, GrafteryError
from graftery.spec.recipes import AdapterRecipe, TransplantRecipe
from graftery.spec.references import Ref
from graftery.spec.wire import NetworkRequest, PrecheckOut, TransplantOut, TransplantRequest, TransplantsOut, VersionOut
from registry import catalogue, jobs

router = APIRouter(prefix="/v1", tags=["networks"])

MISFITS = ("kind_mismatch", "shape_mismatch", "preprocessing_mismatch", "semantics_mismatch", "kind_conflict")
MEASURING = ("samples_invalid", "verify_limit", "unavailable", "store_corrupt")
REFERENCES = ("not_found", "yanked", "name_invalid", "conflict", "idempotency_conflict")


@router.post(
    "/networks",
    status_code=201,
    response_model=VersionOut,
    responses={
        **problems(*REFERENCES, *MISFITS, *MEASURING, "group_mismatch", "store_full"),
        200: {"description": "This network is a version of the name already", "model": VersionOut},
    },
)
async def create_network(work: Posting, service: ServiceDep, request: NetworkRequest) -> Response:
    """Compose a network of modules that fit, without learning anything: gS(f(x)), or gS(h(f(x))) with an adapter.

    Without an adapter, modules that were trained against a compatibility group have to be of one: `metrics` has it as `group`. With
    `force` they need not be; then `metrics` says `across_groups`. With `evaluate_on` the network is measured before it is
    published, and `metrics` has that too; it takes seconds.
    """
    # Before the transaction, which must not be open while one waits.
    asked = await run_in_threadpool(to_measure, service.database, request)
    measured = None
    if asked is not None:
        measured = Measured(asked, await service.prechecks.measure(asked.category, asked.files))

    def publish() -> Response:
        row, created = compose(work.session, service.store, request, measured)
        out = catalogue.version_out(work.session, row)
        return work.answer(out, status=201 if created else 200, location=f"/v1/versions/{row.ref}")

    return await run_in_threadpool(publish)


@router.post(
    "/transplants",
    status_code=202,
    response_model=TransplantOut | TransplantsOut,
    responses=problems(*REFERENCES, *MISFITS, "recipe_invalid", "samples_missing", "samples_invalid"),
)
async def create_transplant(work: Posting, service: ServiceDep, request: TransplantRequest) -> Response:
    """Learn an adapter between a category module and a task module, and compose the network NAME of the three.

    What cannot work is refused here: shapes that no adapter joins, meanings that disagree, a recipe without its data.
    References are pinned now; what their names point at later does not matter to the job. `precheck` has what is known
    before the job runs, if that is found out within seconds; else `GET /v1/prechecks` has it later.

    A list of tasks is a job for each, whose network is NAME-OUTPUT, by the name of the task's output: all are queued, or none.
    The answer is then `jobs`, in the order of the tasks, and `Location` the list of them.
    """
    # Before the transaction, which must not be open while one waits.
    asked = await run_in_threadpool(_asked, service, request)
    wait_s = service.settings.precheck_wait_s
    found = await asyncio.gather(*(service.prechecks.look(each, wait_s) for each in asked))

    def queue() -> Response:
        rows = several.submit(work.session, request)
        known: Sequence[PrecheckOut | None] = found or [None] * len(rows)
        outs = [
            TransplantOut(**jobs.job_out(row).model_dump(), precheck=each)
            for row, each in zip(rows, known, strict=True)
        ]
        if isinstance(request.task, str):
            return accepted(work, rows[0], outs[0])
        return accepted_all(work, rows, TransplantsOut(jobs=outs))

    return await run_in_threadpool(queue)


def _asked(service: Service, request: TransplantRequest) -> list[Wanted]:
    """The pre-checks of a request, one a task; none for one that is refused, which its own transaction does."""
    with service.database.read() as session:
        try:
            planned = [each for _, each in several.plan(session, request)]
        except GrafteryError:
            return []
        return [wanted(session, each.parts, request.recipe.adapter, each.recipe.seed) for each in planned]


@router.get("/prechecks", responses=problems(*REFERENCES[:3], "conflict", *MISFITS[:4]))
async def get_precheck(
    *,
    service: ServiceDep,
    category: Annotated[Ref, Query(description="f")],
    task: Annotated[Ref, Query(description="gS")],
    teacher_task: Annotated[Ref | None, Query(description="gT; by default found as for a transplant")] = None,
    seed: Annotated[int, Query(ge=0, lt=2**53, description="Of the noise")] = 0,
    layers: Annotated[
        int | None, Query(ge=1, le=8, description="Of the adapter; by default as a transplant has it")
    ] = None,
    force: Annotated[bool, Query(description="Also where preprocessing or meanings disagree")] = False,
) -> PrecheckOut:
    """What is known before a transplant: the adapter that the shapes need, and how like f is to those that feed gS already.

    Where sizes of outputs are free, the teacher's task module tells how large they are to be: `layers` has the resize that makes
    them so. The same modules and seed give the same numbers. A pre-check takes seconds: where it is `running`, ask again.
    """

    def look() -> Wanted:
        with service.database.read() as session:
            f = catalogue.resolve(session, category, kinds={"category"}, for_pin=True)
            shared = catalogue.resolve(session, task, kinds={"task"}, for_pin=True)
            parts = {"category": f, "task": shared}
            own = None
            if teacher_task is not None:
                own = catalogue.resolve(session, teacher_task, kinds={"task"}, for_pin=True)
            transplants.check_parts(session, f, shared, own, force=force)
            with suppress(Conflict):  # a transplant would have to name it
                own = own or transplants.teacher_task_of(session, f, shared, TransplantRecipe())
            parts |= {} if own is None else {"teacher_task": own}
            return wanted(session, parts, AdapterRecipe(layers=layers), seed)

    return await service.prechecks.look(await run_in_threadpool(look), service.settings.precheck_wait_s)

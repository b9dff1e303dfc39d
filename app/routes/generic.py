"""/v1/generic: categories by tasks, grown one teacher at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.deps import Cursor, Limit, NamePath, Posting, Reading, Service, ServiceDep, Work, Writing, link_next
from app.edge.errors import problems
from app.requests import consolidating, growing, growth
from app.requests.prechecks import Wanted, wanted
from app.routes.jobs import accepted, wake
from app.routes.networks import MISFITS, REFERENCES
from graftery.errors import GrafteryError
from graftery.spec.cells import csv_of, within
from graftery.spec.generic import (
    CellOut,
    CellRequest,
    CellState,
    ChangeOut,
    ConsolidateRequest,
    GenericCertificate,
    GenericOut,
    GenericRequest,
    GenericSummary,
    GrowOut,
    GrowRequest,
    MembersRequest,
    PromoteRequest,
    RollbackRequest,
)
from graftery.spec.wire import JobOut, Page, PrecheckOut
from registry import catalogue, generics
from registry.models import Version

router = APIRouter(prefix="/v1/generic", tags=["generic networks"])

KNOWN = ("not_found", "name_invalid", "kind_mismatch")
Member = Annotated[str, Path(min_length=1, max_length=128, examples=["cat"])]
Names = Annotated[list[Annotated[str, Query(max_length=128)]] | None, Query(max_length=200)]


@router.post(
    "",
    status_code=201,
    response_model=GenericOut,
    responses={
        **problems(*REFERENCES, "kind_mismatch", "kind_conflict", "request_invalid"),
        200: {"description": "It is there already; what was missing was added", "model": GenericOut},
    },
)
def create_generic(work: Posting, request: GenericRequest) -> Response:
    """Make a generic network of category and task modules. Networks that join two of them already become its cells."""
    _, created = generics.create(work.session, request.name, request.description)
    generics.add(work.session, request.name, _members(work.session, request))
    out = generics.matrix(work.session, request.name)
    return work.answer(out, status=201 if created else 200, location=f"/v1/generic/{request.name}")


def _members(session: Session, request: GenericRequest | MembersRequest) -> list[Version]:
    return [
        *(catalogue.resolve(session, ref, kinds={"category"}, for_pin=True) for ref in request.categories),
        *(catalogue.resolve(session, ref, kinds={"task"}, for_pin=True) for ref in request.tasks),
    ]


@router.get("", responses=problems())
def list_generics(
    *, request: Request, response: Response, session: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Page[GenericSummary]:
    """Generic networks, the newest name first."""
    page = generics.list_generics(session, cursor=cursor, limit=limit)
    link_next(request, response, page)
    return page


@router.get(
    "/{name}",
    response_model=GenericOut,
    responses={
        **problems(*KNOWN),
        200: {
            "content": {"text/csv": {"schema": {"type": "string"}, "example": "category,task,state\ncat,is,ready\n"}}
        },
    },
)
def get_generic(
    *,
    session: Reading,
    name: NamePath,
    category: Annotated[Names, Query(description="Only these rows")] = None,
    task: Annotated[Names, Query(description="Only these columns")] = None,
    state: Annotated[list[CellState] | None, Query(description="Only cells of these states")] = None,
    within_points: Annotated[
        float | None,
        Query(
            alias="within",
            ge=0,
            le=100,
            description="Only cells that are measured within so many points of their teacher",
        ),
    ] = None,
    format: Annotated[Literal["json", "csv"], Query(description="csv: a line for each cell")] = "json",
) -> Response:
    """The matrix: each cell is missing, running, failed, rejected, or a network with how good it is."""
    out = generics.matrix(session, name)

    def is_asked(cell: CellOut) -> bool:
        named = (not category or cell.category in category) and (not task or cell.task in task)
        return named and (not state or cell.state in state) and (within_points is None or within(cell, within_points))

    out = out.model_copy(update={"cells": [cell for cell in out.cells if is_asked(cell)]})
    if format == "csv":
        return Response(csv_of(out), media_type="text/csv")
    return Response(out.model_dump_json(), media_type="application/json")


@router.delete("/{name}", status_code=204, responses=problems(*KNOWN))
def delete_generic(work: Writing, name: NamePath) -> None:
    """Delete a generic network and its history. Its modules, networks and jobs stay."""
    generics.delete(work.session, name)


@router.post(
    "/{name}/members",
    response_model=GenericOut,
    responses=problems(*REFERENCES, "kind_mismatch", "request_invalid"),
)
def add_members(work: Posting, name: NamePath, request: MembersRequest) -> Response:
    """Add categories and tasks, with no jobs. What is there stays as it is; networks that join a new pair become its cell."""
    generics.add(work.session, name, _members(work.session, request))
    return work.answer(generics.matrix(work.session, name))


@router.delete("/{name}/members/{member}", status_code=204, responses=problems(*KNOWN, "job_state"))
def remove_member(work: Writing, name: NamePath, member: Member) -> None:
    """Take a category or a task out, with its cells. Its module and their networks stay."""
    generics.remove(work.session, name, member)


@router.post(
    "/{name}/cells",
    response_model=GenericOut,
    responses=problems(*REFERENCES, "kind_mismatch", "cells_differ"),
)
def place_cell(work: Posting, name: NamePath, request: CellRequest) -> Response:
    """Put a network at hand, composed or learned, into the cell of its category and task."""
    network = catalogue.resolve(work.session, request.network, kinds={"network"}, for_pin=True)
    generics.place(work.session, name, network, replace=request.replace)
    return work.answer(generics.matrix(work.session, name))


@router.post(
    "/{name}/grow",
    status_code=202,
    response_model=GrowOut,
    responses={
        **problems(*REFERENCES, *MISFITS, "recipe_invalid", "samples_missing", "samples_invalid", "request_invalid"),
        200: {"description": "Nothing was to be done, or it was a dry run", "model": GrowOut},
    },
)
async def grow_generic(work: Posting, service: ServiceDep, name: NamePath, request: GrowRequest) -> Response:
    """Add a teacher: its category becomes a row, and each cell of it that is missing gets the job of a transplant.

    What is there or under way stays as it is, so that the same request can be sent again: it goes on with what is
    missing. A result becomes a cell where `accept` is met. With `dry_run`, the answer says what would be done.
    """
    # Before the transaction, which must not be open while one waits.
    asked = await run_in_threadpool(_asked, service, name, request)
    wait_s = service.settings.precheck_wait_s
    found = await asyncio.gather(*(service.prechecks.look(each, wait_s) for each in asked.values()))
    prechecks: Mapping[str, PrecheckOut] = dict(zip(asked, found, strict=True))
    return await run_in_threadpool(_grown, work, name, request, prechecks)


def _grown(work: Work, name: str, request: GrowRequest, prechecks: Mapping[str, PrecheckOut]) -> Response:
    out, rows = growing.submit(work.session, name, request, prechecks)
    wake(work, rows)
    return work.answer(out, status=202 if rows else 200, location=f"/v1/generic/{name}" if rows else None)


def _asked(service: Service, name: str, request: GrowRequest) -> dict[str, Wanted]:
    """By task, the pre-checks of the cells that get a job; none for a request that is refused, which its own transaction does."""
    with service.database.read() as session:
        try:
            found = growth.plan(session, name, request)
        except GrafteryError:
            return {}
        recipe = request.recipe
        return {
            each.task: wanted(session, each.planned.parts, recipe.adapter, recipe.seed)
            for each in found.started
            if each.planned is not None
        }


@router.post(
    "/{name}/consolidate",
    status_code=202,
    response_model=JobOut,
    responses=problems(
        *REFERENCES,
        *MISFITS[:4],
        "cells_differ",
        "recipe_invalid",
        "samples_missing",
        "samples_invalid",
        "request_invalid",
    ),
)
def consolidate_generic(work: Posting, name: NamePath, request: ConsolidateRequest) -> Response:
    """Let a task module learn on over the features of all its categories, or a category module with the gradients of all its tasks.

    The job publishes new versions, measured beside the old ones cell by cell; the network has the old ones until it is promoted.
    """
    return accepted(work, consolidating.submit(work.session, name, request))


@router.post(
    "/{name}/promote",
    response_model=ChangeOut,
    responses=problems(*KNOWN, "conflict", "yanked", "job_state", "cells_worse", "idempotency_conflict"),
)
def promote_generic(work: Posting, name: NamePath, request: PromoteRequest) -> Response:
    """Put what consolidations made into all cells that they were about, or into none: no cell may be worse by more than `worst`.

    The names of the cells' networks serve the new versions at the same moment. Where anybody changed one of the cells meanwhile: 409.
    """
    return work.answer(generics.change_out(generics.promote(work.session, name, request.jobs, request.worst)))


@router.post(
    "/{name}/rollback",
    response_model=ChangeOut,
    responses=problems(*KNOWN, "conflict", "yanked", "idempotency_conflict"),
)
def rollback_generic(work: Posting, name: NamePath, request: RollbackRequest | None = None) -> Response:
    """Undo a promotion, or a cell that was replaced: all its cells are what they were before, or none."""
    row = generics.rollback(work.session, name, (request or RollbackRequest()).change)
    return work.answer(generics.change_out(row))


@router.get("/{name}/changes", responses=problems(*KNOWN))
def list_generic_changes(
    *,
    request: Request,
    response: Response,
    session: Reading,
    name: NamePath,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ChangeOut]:
    """What happened to it, the newest first."""
    page = generics.list_changes(session, generics.find(session, name), cursor=cursor, limit=limit)
    link_next(request, response, page)
    return page


@router.get("/{name}/certificate", responses=problems(*KNOWN))
def get_generic_certificate(session: Reading, name: NamePath) -> GenericCertificate:
    """Whether a cell ever answered differently after a job: each job of this network asks all its cells again."""
    return generics.certificate(session, name)

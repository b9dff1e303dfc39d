"""/v1/teachers: a whole net in, one category module and its task modules out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool

from app.deps import NamePath, ServiceDep
from app.edge.errors import problems
from app.edge.openapi import binary_body
from app.files import teachers
from app.files.uploads import DigestHeader, ThereDep, check, received, unread_body
from app.requests import members, names
from app.routes.modules import MEMBER_REFUSALS, UPLOAD_REFUSALS
from graftery.spec.wire import TeacherOut

router = APIRouter(prefix="/v1/teachers", tags=["teachers"])


@router.put(
    "/{name}",
    status_code=201,
    response_model=TeacherOut,
    responses={
        **problems(*UPLOAD_REFUSALS, *MEMBER_REFUSALS, "cut_not_found", "cut_not_separating"),
        200: {"description": "All of it was there already", "model": TeacherOut},
    },
    openapi_extra=binary_body("The module file of a teacher net (kind teacher)"),
)
async def upload_teacher(
    *,
    request: Request,
    service: ServiceDep,
    name: NamePath,
    cut: Annotated[
        str, Query(min_length=1, max_length=200, description="The layer path to cut at", examples=["features.12"])
    ],
    description: Annotated[str | None, Query(max_length=65_536, description="Of the category; markdown")] = None,
    there: ThereDep,
    repr_digest: DigestHeader = None,
) -> Response:
    """Upload a teacher net and cut it.

    NAME becomes the category module, NAME-teacher the net itself; for each OUTPUT of the net NAME-OUTPUT becomes its
    task module and NAME-OUTPUT-teacher the network of both. All of it is published, or nothing. The parts of a net that was
    trained against a compatibility group are checked as its members.
    """
    with unread_body(request):
        await run_in_threadpool(names.check, service.database, teachers.names_of(name, ()))
    async with (
        received(request, service, name, there) as upload,
        contextmanager_in_threadpool(service.store.scratch()) as folder,
    ):
        split = await check(service, service.verifier.split, upload.path, cut, folder)
        await run_in_threadpool(names.check, service.database, teachers.names_of(name, split.tasks))
        seen = await check(service, members.metrics_of_parts, service, split)
        blobs = await run_in_threadpool(teachers.store_parts, service.store, upload.publish, split)
        out, created = await run_in_threadpool(
            teachers.publish, service, name, split, blobs, description, upload=upload.upload, seen=seen
        )
    headers = {"Location": f"/v1/versions/{out.category.ref}"}
    return Response(out.model_dump_json(), 201 if created else 200, headers, "application/json")

"""/v1/samples: the upload of sample sets."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.deps import NamePath, ServiceDep
from app.edge.errors import problems
from app.edge.openapi import binary_body
from app.files.uploads import (
    DescriptionQuery,
    DigestHeader,
    TagQuery,
    ThereDep,
    check,
    published,
    received,
    unread_body,
)
from app.requests import names
from app.routes.modules import UPLOAD_ANSWERS, UPLOAD_REFUSALS
from graftery.spec.wire import VersionOut

router = APIRouter(prefix="/v1/samples", tags=["samples"])


@router.put(
    "/{name}",
    status_code=201,
    response_model=VersionOut,
    responses={**problems(*UPLOAD_REFUSALS, "samples_invalid"), **UPLOAD_ANSWERS},
    openapi_extra=binary_body("A safetensors file with x [n, ...] and, where there are labels, y [n] or [n, ...]"),
)
async def upload_samples(
    *,
    request: Request,
    service: ServiceDep,
    name: NamePath,
    description: DescriptionQuery = None,
    tag: TagQuery = None,
    there: ThereDep,
    repr_digest: DigestHeader = None,
) -> Response:
    """Upload a sample set, labelled or not. The same bytes again give the version that is there."""
    with unread_body(request):
        await run_in_threadpool(names.check, service.database, {name: ("samples",)})
    async with received(request, service, name, there) as upload:
        facts = await check(service, service.verifier.samples, upload.path)
        blob = await run_in_threadpool(upload.publish)
        return await published(
            service,
            upload,
            name=name,
            kind="samples",
            blob=blob,
            manifest=None,
            facts=facts,
            metrics=None,
            description=description,
            tags=tag or (),
        )

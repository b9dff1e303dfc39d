"""/v1/clones, and a network's clones: jobs that copy classes of one network for another, and what puts them there or takes them out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from app.deps import Posting, RefPath, ServiceDep, Work
from app.edge.errors import problems
from app.files.uploads import check
from app.requests import attaching, clones
from app.routes.jobs import accepted
from app.routes.networks import MISFITS, REFERENCES
from graftery.spec.clones import CloneRequest, ClonesRequest
from graftery.spec.wire import JobOut, VersionOut
from registry import catalogue
from registry.models import Version

router = APIRouter(prefix="/v1", tags=["networks"])
THERE: dict[int | str, dict[str, Any]] = {
    200: {"description": "This network is a version of the name already", "model": VersionOut}
}


@router.post(
    "/clones",
    status_code=202,
    response_model=JobOut,
    responses=problems(
        *REFERENCES,
        *MISFITS,
        "class_unknown",
        "class_known",
        "position_invalid",
        "recipe_invalid",
        "samples_missing",
        "samples_invalid",
    ),
)
def create_clone(work: Posting, request: CloneRequest) -> Response:
    """Copy some classes of a source network into a clone NAME that the target network can carry; neither of them changes.

    What is known not to work is refused here: a class that the source lacks or the target has, images that the two read
    differently, layers that are none, labels of other classes. References are pinned now. The job publishes the clone, with how good it
    is and what it costs; and, where `network` is given, the target with the clone under that name.
    """
    return accepted(work, clones.submit(work.session, request))


@router.post(
    "/networks/{ref}/attach",
    status_code=201,
    response_model=VersionOut,
    responses={
        **problems(
            *REFERENCES,
            *MISFITS,
            "target_changed",
            "class_known",
            "position_invalid",
            "verify_limit",
            "unavailable",
            "store_corrupt",
            "store_full",
        ),
        **THERE,
    },
)
async def attach_clones(work: Posting, service: ServiceDep, ref: RefPath, request: ClonesRequest) -> Response:
    """Publish the network with these clones: a version of the same modules, whose answers for its own classes stay the same bits.

    A clone goes into the target that it was made for, and into no other; several go in together, in any order.
    """
    # Before the transaction, which must not be open while one waits.
    parts = await run_in_threadpool(attaching.to_check, service.database, ref, request)
    checked = None if parts is None else await check(service, attaching.check, service, parts)
    return await run_in_threadpool(
        lambda: _told(work, *attaching.attach(work.session, service.store, ref, request, checked))
    )


@router.post(
    "/networks/{ref}/detach",
    status_code=201,
    response_model=VersionOut,
    responses={**problems(*REFERENCES, "kind_mismatch", "kind_conflict", "store_full"), **THERE},
)
def detach_clones(work: Posting, service: ServiceDep, ref: RefPath, request: ClonesRequest) -> Response:
    """Publish the network without these clones; without its last one it is the target again, to the digest."""
    return _told(work, *attaching.detach(work.session, service.store, ref, request))


def _told(work: Work, row: Version, created: bool) -> Response:
    out = catalogue.version_out(work.session, row)
    return work.answer(out, status=201 if created else 200, location=f"/v1/versions/{row.ref}")

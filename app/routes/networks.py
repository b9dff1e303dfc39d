"""/v1/networks and /v1/transplants: networks composed by hand, and the jobs that learn an adapter for one."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app import transplants
from app.composing import compose
from app.deps import Posting
from app.errors import problems
from app.routes.jobs import accepted
from graftery.spec.wire import JobOut, NetworkRequest, TransplantRequest, VersionOut
from registry import catalogue

router = APIRouter(prefix="/v1", tags=["networks"])

MISFITS = ("kind_mismatch", "shape_mismatch", "preprocessing_mismatch", "semantics_mismatch", "kind_conflict")
REFERENCES = ("not_found", "yanked", "name_invalid", "conflict", "idempotency_conflict")


@router.post(
    "/networks",
    status_code=201,
    response_model=VersionOut,
    responses={
        **problems(*REFERENCES, *MISFITS, "store_full"),
        200: {"description": "This network is a version of the name already", "model": VersionOut},
    },
)
def create_network(work: Posting, request: NetworkRequest) -> Response:
    """Compose a network of modules that fit, without learning anything: gS(f(x)), or gS(h(f(x))) with an adapter."""
    row, created = compose(work.session, work.service.store, request)
    out = catalogue.version_out(work.session, row)
    return work.answer(out, status=201 if created else 200, location=f"/v1/versions/{row.ref}")


@router.post(
    "/transplants",
    status_code=202,
    response_model=JobOut,
    responses=problems(*REFERENCES, *MISFITS, "recipe_invalid", "samples_missing", "samples_invalid"),
)
def create_transplant(work: Posting, request: TransplantRequest) -> Response:
    """Learn an adapter between a category module and a task module, and compose the network NAME of the three.

    What cannot work is refused here: shapes that no adapter joins, meanings that disagree, a recipe without its data.
    References are pinned now; what their names point at later does not matter to the job.
    """
    return accepted(work, transplants.submit(work.session, request))

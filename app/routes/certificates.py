"""/v1/versions/REF/certificate and /probes: that what was learned later has not changed a network."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app.deps import Reading, RefPath, ServiceDep
from app.edge.errors import problems
from app.files.downloads import FILE_ANSWERS, File, WantedDep, file_answer
from graftery.errors import NotFound
from graftery.spec.certificate import CertificateOut
from registry import catalogue

router = APIRouter(prefix="/v1/versions", tags=["networks"])

KNOWN = ("not_found", "yanked", "name_invalid", "kind_mismatch")


@router.get("/{ref}/certificate", responses=problems(*KNOWN))
def get_certificate(session: Reading, ref: RefPath) -> CertificateOut:
    """How a network answered when it was recorded, and whether it answered the same after each transplant since."""
    return catalogue.certificate_out(session, catalogue.resolve(session, ref))


@router.get(
    "/{ref}/probes",
    response_class=StreamingResponse,
    responses={**problems(*KNOWN, "range_invalid", "store_corrupt"), **FILE_ANSWERS},
)
def get_probes(request: Request, service: ServiceDep, session: Reading, ref: RefPath, wanted: WantedDep) -> Response:
    """The record of a network: a safetensors file with its probe inputs and its outputs at them. It never changes."""
    row = catalogue.resolve(session, ref, kinds={"network"})
    probes = catalogue.probes_of(session, row)
    if probes is None:
        raise NotFound(
            f"{row.ref} has no record of probes yet",
            hint="the next transplant that shares a module with it makes one",
        )
    name = f"{row.module.name}-{row.number}.probes.safetensors"
    file, only_headers = File(probes.digest, probes.blob.size_bytes, name), hasattr(request.state, "only_headers")
    return file_answer(service.store, file, wanted, only_headers=only_headers)

"""What crosses HTTP of uploads that come in pieces, and of bytes that need not be sent."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from graftery.spec.manifest import Digest
from graftery.spec.references import Name
from graftery.spec.wire import Request, Whole, Wire

OFFSET_TYPE = "application/offset+octet-stream"
TUS_VERSION = "1.0.0"
Target = Literal["module", "teacher", "samples"]


class UploadRequest(Request):
    """What will be sent, and under which name it will be published."""

    name: Name
    size_bytes: Whole = Field(ge=1, le=2**50)
    digest: Digest = Field(description="sha256 of the whole file", examples=["0f" * 32])
    target: Target = Field("module", description="Whether PUT /v1/modules, /v1/teachers or /v1/samples will publish it")


class UploadOut(Wire):
    """An upload in pieces: what of it is there."""

    id: str
    name: str
    target: Target
    digest: str
    size_bytes: int
    offset: int = Field(description="All bytes before this one are there")
    part_bytes: int = Field(description="Part N begins at N times this, the first is 0; the last one may be shorter")
    missing: list[int] = Field(description="The parts that are not there, in order; at most 10 000 of them")
    expires_at: datetime


class BlobOut(Wire):
    """Bytes that the service has."""

    digest: str
    size_bytes: int

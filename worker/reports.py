"""What crosses the pipe between a worker and its child: one order in, many reports out, each a line of JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from graftery.spec.limits import Limits


class Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> bytes:
        return self.model_dump_json().encode() + b"\n"


class FileOf(Line):
    """Bytes as a local file. `path` is None where they are missing, `digest` where it is not known."""

    path: str | None
    digest: str | None = None


class SharedNetwork(Line):
    """A network that shares a module with the one to come.

    Args:
        id: of its version.
        files: by role: `category`, `adapter`, `task`, `clone.0`, ... as far as it has them, and `probes` where there is a record.
    """

    id: int
    ref: str
    files: dict[str, FileOf]


class Sharing(Line):
    """The networks to certify; `left_out` more share a module."""

    networks: tuple[SharedNetwork, ...] = ()
    left_out: int = 0


class KeptIn(Line):
    """A folder of what earlier jobs made; at most so many bytes of it, and so many left free on the disk."""

    folder: str
    most_bytes: int
    free_bytes: int


class Order(Line):
    """Run this job: everything the child needs, as local files and plain values."""

    job: str
    kind: str
    request: dict[str, Any]
    recipe: dict[str, Any]
    files: dict[str, str] = Field(description="Role to the path of a local file")
    resume: str | None = Field(None, description="Path of the last checkpoint")
    scratch: str = Field(description="A folder for what the job writes")
    device: str
    threads: int
    checkpoint_s: float
    limits: Limits
    sharing: Sharing = Sharing()
    inversions: KeptIn | None = Field(None, description="Images that earlier jobs made; None: none are kept")


class Ready(Line):
    """The child has loaded what it needs and takes orders."""

    type: Literal["ready"] = "ready"


class Advanced(Line):
    """How far the job is; at most two a second."""

    type: Literal["advanced"] = "advanced"
    data: dict[str, Any]


class Saved(Line):
    """A checkpoint lies at `path`; the worker takes it from there and removes it."""

    type: Literal["saved"] = "saved"
    step: int
    path: str


class Done(Line):
    """The job succeeded; `result` is the runner's own."""

    type: Literal["done"] = "done"
    result: dict[str, Any]


class Failed(Line):
    """The job ended by itself with an error."""

    type: Literal["failed"] = "failed"
    code: str
    message: str


Report = Ready | Advanced | Saved | Done | Failed
_REPORT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="type")])


def decode_report(line: bytes) -> Report:
    return _REPORT.validate_json(line)

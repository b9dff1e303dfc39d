"""What a non-interference certificate says: the probes of a composed network, and every replay of them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from graftery.spec.manifest import Digest, Frozen, Role
from graftery.spec.wire import Wire

Compared = Literal["bitwise", "tolerance"]
"""`bitwise` on the device class of the record; elsewhere rounding differs, and a tolerance has to do."""


class DeviceClass(Frozen):
    """What decides the bits of an output, beside the modules: two equal ones give the same bits."""

    device: Literal["cpu", "cuda"]
    model: str = Field(description="Of the processor or GPU", examples=["AMD EPYC, family 25, model 1"])
    kernels: str = Field(description="What the kernels were built or chosen for", examples=["AVX512"])
    torch: str = Field(examples=["2.13.0+cpu"])
    threads: int = Field(ge=1, description="Sums depend on their number")

    def __str__(self) -> str:
        many = "" if self.threads == 1 else "s"
        return f"{self.device} ({self.model}, {self.kernels}), torch {self.torch}, {self.threads} thread{many}"


class ProbesOut(Wire):
    """The record of a network: probe inputs and what it gave for them."""

    digest: Digest = Field(description="sha256 of the record's file")
    size_bytes: int
    device_class: DeviceClass
    made_at: datetime
    made_by: str | None = Field(None, examples=["job 5f0c"])


class Replayed(Wire):
    """How a network answered when it was asked again."""

    compared: Compared
    same: bool = Field(description="The same bits, or on another device class within the tolerance")
    identical: bool = Field(description="The same bits")
    reason: str | None = Field(None, description="What is not the same")


class ReplayOut(Replayed):
    """One replay of a network's probes, and the job after whose training it was done."""

    job: str
    at: datetime


class CertificateOut(Wire):
    """What is known about one version of a network: that what was learned since has not changed its answers."""

    network: str = Field(examples=["cat-in-animals:1"])
    digest: Digest
    parts: dict[Role, str] = Field(description="Role to the pinned reference of the module: all that a replay needs")
    clones: list[str] = Field([], description="Pinned references of the clones that it has, in their order")
    probes: ProbesOut | None = Field(
        None, description="None: no worker has seen it yet; the next transplant that shares a module makes them"
    )
    replays: list[ReplayOut] = Field([], description="The newest first, at most a hundred")


class Verification(Replayed):
    """A replay outside the service, by `graftery verify NAME`."""

    device_class: DeviceClass = Field(description="Where it was replayed")
    certificate: CertificateOut

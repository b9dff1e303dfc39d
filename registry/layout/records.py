"""What a layout says of names and versions, beside their files: everything that a registry's rows know of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from graftery.spec.certificate import DeviceClass
from graftery.spec.generic import MOST_CELLS, MOST_MEMBERS
from graftery.spec.manifest import Digest, Kind, NetworkParts, Role
from graftery.spec.references import Alias, Name

NAME_TYPE, VERSION_TYPE = "application/vnd.graftery.name.v1+json", "application/vnd.graftery.version.v1+json"
FILE_TYPES: dict[Kind, str] = {
    "network": "application/vnd.graftery.network.v1+json",
    "samples": "application/vnd.graftery.samples.v1+safetensors",
}
MODULE_TYPE, PROBES_TYPE = (
    "application/vnd.graftery.module.v1+safetensors",
    "application/vnd.graftery.probes.v1+safetensors",
)
SUBJECT_ROLES: tuple[Role, ...] = ("category", "task")
"""Of an adapter: the modules that it refers to as OCI referrers do."""

Number = Annotated[int, Field(ge=1, le=10**9)]
Text = Annotated[str, Field(max_length=65_536)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AliasRecord(Record):
    alias: Alias
    version: Number
    updated_at: AwareDatetime
    updated_by: Text | None = None


class AliasChangeRecord(Record):
    alias: Alias
    old: Number | None = None
    new: Number | None = None
    rollback: bool = False
    at: AwareDatetime
    by: Text | None = None


class VersionKey(Record):
    """A version by its name and number."""

    name: Name
    number: Number

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.number


class CellRecord(Record):
    category: Name
    task: Name
    network: VersionKey


class GenericChangeRecord(Record):
    action: Text
    at: AwareDatetime
    by: Text | None = None
    details: dict[str, Any]
    undoes: int | None = Field(None, ge=0, description="Place of the change that it undoes")


class GenericRecord(Record):
    """What is in a generic network; jobs are not part of a layout, so that cells that wait for one are missing."""

    members: list[VersionKey] = Field(max_length=2 * MOST_MEMBERS, description="In the order in which they came")
    cells: list[CellRecord] = Field(max_length=MOST_CELLS)
    changes: list[GenericChangeRecord] = Field(description="The oldest first")


class NameRecord(Record):
    """A name, and what can change about it."""

    name: Name
    kind: Kind
    description: Text = ""
    tags: list[Tag] = Field(max_length=1000)
    last_number: int = Field(ge=0, le=10**9)
    created_at: AwareDatetime
    updated_at: AwareDatetime
    aliases: list[AliasRecord]
    changes: list[AliasChangeRecord] = Field(description="Of the aliases, the oldest first")
    generic: GenericRecord | None = Field(None, description="Of a generic network")


class ParentRecord(VersionKey):
    role: Role


class ProbesRecord(Record):
    digest: Digest
    size_bytes: int = Field(ge=0)
    device_class: DeviceClass
    made_at: AwareDatetime
    made_by: Text | None = None


class VersionRecord(Record):
    """A version, which never changes but for a yank."""

    name: Name
    kind: Kind
    number: Number
    digest: Digest
    size_bytes: int = Field(ge=0)
    manifest: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    parts: NetworkParts | None = None
    metrics: dict[str, Any] | None = None
    tags: list[Tag] = Field(max_length=1000)
    created_at: AwareDatetime
    created_by: Text | None = None
    yanked_at: AwareDatetime | None = None
    yank_reason: Text | None = None
    parents: list[ParentRecord] = Field(max_length=10_000)
    probes: ProbesRecord | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.number

    @property
    def ref(self) -> str:
        return f"{self.name}:{self.number}"


def file_type(kind: Kind) -> str:
    return FILE_TYPES.get(kind, MODULE_TYPE)

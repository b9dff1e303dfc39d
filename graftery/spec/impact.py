"""What crosses HTTP of a version's impact: what is touched where it is yanked or deleted, and what is not.

A yank hides a version from names and aliases. Everything that pins it goes on: networks find their modules by lineage,
jobs by digest, and `name:3` and `name@sha256:...` still resolve. So a yanked part breaks no network that has it; what
breaks are the names that lead to the yanked version itself, and outputs that a category module answers under them. A
delete is refused as long as anything depends on the version; where it is not refused, names are touched as by a yank,
and number and digest are gone too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from graftery.spec.lineage import LineageEdge
from graftery.spec.manifest import Kind
from graftery.spec.wire import JobKind, JobState, Wire

Kept = Literal["still_served", "still_resolved"]
NameEffect = Literal[Kept, "moved", "fewer_outputs", "no_longer_resolved", "not_ready"]
KEPT: frozenset[str] = frozenset({"still_served", "still_resolved"})

_EFFECT = """What a yank does to it.
- `still_served`: it answers under /v2 as before.
- `still_resolved`: it leads to the same version as before.
- `moved`: it leads to, or is answered by, another version: see `then`.
- `fewer_outputs`: a category module that answers without `outputs`.
- `no_longer_resolved`: refused, 404: no version is left, or `default` or the alias is on a yanked one.
- `not_ready`: a category module under which no network is left: refused under /v2, 503."""
_WHY = (
    "From the version, or a part of it, to this: each child was made from its parent. Empty: it is the version itself"
)


class NameImpact(Wire):
    """A name by which the version, something made of it, or a category module that it answers under is found now."""

    reference: str = Field(examples=["cat-in-animals@stable"])
    ref: str = Field(description="The version that it leads to now", examples=["cat-in-animals:1"])
    kind: Kind
    default: bool = Field(False, description="It is the alias `default`: what the plain name means")
    served: bool = Field(False, description="It answers under /v2 now")
    effect: NameEffect = Field(description=_EFFECT)
    then: str | None = Field(None, description="Of `moved`: the version that it leads to, or answers by, then")
    outputs: list[str] = Field([], description="Of a category module: its outputs that are touched")
    why: list[LineageEdge] = Field([], description=_WHY)

    @property
    def breaks(self) -> bool:
        """Who asks under this name is answered differently, or not at all."""
        return self.effect not in KEPT


class DependentImpact(Wire):
    """A version that was made of it, directly or not. While one is there, it cannot be deleted."""

    ref: str
    kind: Kind
    yanked: bool = False
    effect: Kept = Field(description="Of a yank: a network is `still_served`, all else `still_resolved`")
    why: list[LineageEdge] = Field(description=_WHY)


class JobImpact(Wire):
    """A queued or running job that pins it, or something made of it."""

    id: str
    kind: JobKind
    state: JobState
    effect: Literal["goes_on"] = Field("goes_on", description="Of a yank: jobs pin digests, which resolve")
    pins: list[str] = Field(description="The versions among these that it pins", examples=[["cat:1"]])
    why: list[LineageEdge] = Field([], description=_WHY)


class CellImpact(Wire):
    """A ready cell of a generic network that is composed of it. A yank leaves it as it is: a cell pins its network; a delete is refused."""

    generic: str
    category: str
    task: str


class DeleteImpact(Wire):
    """Whether a delete would be refused now, 409 `has_dependents`."""

    refused: bool
    refused_by: list[str] = Field(
        [], description="What names it directly, as `dependents` of the refusal", examples=[["cat@stable", "net:1"]]
    )


class ImpactOut(Wire):
    """What a yank of a version, or of all versions of a name, touches; and whether a delete would be refused.

    By number and digest, versions that are yanked still resolve and are still served.
    """

    ref: str = Field(description="The version, or the name: all its versions", examples=["cat:1"])
    name: str = Field(examples=["cat"])
    kind: Kind
    yanked: bool = Field(False, description="It is hidden already: a yank changes no name")
    names: list[NameImpact] = Field([], description="What breaks and is served first, then what breaks, then the rest")
    dependents: list[DependentImpact] = Field([], description="The nearest first")
    jobs: list[JobImpact] = Field([], description="That pin one of these; the oldest first")
    cells: list[CellImpact] = Field([], description="Of generic networks")
    delete: DeleteImpact
    left_out: int = Field(0, description="How many more names and dependents there are than are listed")

    @property
    def broken(self) -> list[NameImpact]:
        """What is served now, and would be answered differently or not at all."""
        return [name for name in self.names if name.served and name.breaks]


def why_text(why: Sequence[LineageEdge]) -> str:
    """The way in words: `category of h:1, adapter of net:1`."""
    return ", ".join(f"{edge.role} of {edge.child}" for edge in why)

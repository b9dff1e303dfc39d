"""What crosses HTTP of lineage: what a version was made from, and what was made of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graftery.spec.manifest import Kind, Role
from graftery.spec.wire import Wire

Direction = Literal["up", "down", "both"]
"""up: to what it was made from; down: to what was made of it; both: one graph of the two."""


class LineageNode(Wire):
    ref: str = Field(examples=["cat:1"])
    kind: Kind
    digest: str
    yanked: bool = False
    aliases: list[str] = Field([], description="That point at it; `default`: it is what the plain name means")


class LineageEdge(Wire):
    """`child` was made from `parent`, which had this role."""

    child: str
    parent: str
    role: Role


class LineageOut(Wire):
    """Nodes in the order in which they were published: parents come before what was made of them."""

    root: str
    direction: Direction
    nodes: list[LineageNode]
    edges: list[LineageEdge]

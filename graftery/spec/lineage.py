"""What crosses HTTP of lineage: what a version was made from, and what was made of it."""

from __future__ import annotations

from typing import Literal

from graftery.spec.manifest import Kind, Role
from graftery.spec.wire import Wire


class LineageNode(Wire):
    ref: str
    kind: Kind
    digest: str


class LineageEdge(Wire):
    """`child` was made from `parent`, which had this role."""

    child: str
    parent: str
    role: Role


class LineageOut(Wire):
    root: str
    direction: Literal["up", "down"]
    nodes: list[LineageNode]
    edges: list[LineageEdge]

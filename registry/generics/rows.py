"""A generic network as rows: who is in it, and which cells there are."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.errors import Conflict, NotFound
from graftery.spec.manifest import Kind
from registry.catalogue.find import find_module, near
from registry.models import GenericCell, GenericMember, Module, Version

KIND: Kind = "generic"


def find(session: Session, name: str, *, lock: bool = False) -> Module:
    """The row of a generic network; with `lock`, nobody else changes it until the transaction ends.

    Raises:
        NotFound: there is no such name.
        Conflict: `kind_mismatch`: the name is of another kind.
    """
    module = find_module(session, name, lock=lock)
    if module.kind != KIND:
        raise Conflict(
            f"{name} is of kind {module.kind}, not a generic network",
            code="kind_mismatch",
            hint="GET /v1/generic lists the generic networks",
        )
    return module


@dataclass(frozen=True)
class Cell:
    """A row and a column, their versions, and what is known of the cell between them."""

    category: Version
    task: Version
    row: GenericCell | None
    network: Version | None

    @property
    def place(self) -> tuple[int, int]:
        """The ids of both names."""
        return self.category.module_id, self.task.module_id

    def __str__(self) -> str:
        return f"{self.category.module.name} x {self.task.module.name}"


@dataclass(frozen=True)
class Grid:
    """All of a generic network, in the order in which its members came."""

    generic: Module
    categories: list[Version]
    tasks: list[Version]
    _cells: dict[tuple[int, int], GenericCell] = field(repr=False)
    _networks: dict[int, Version] = field(repr=False)

    @property
    def cells(self) -> list[Cell]:
        """Row by row, the missing ones too."""
        return [self._cell(category, task) for category in self.categories for task in self.tasks]

    def _cell(self, category: Version, task: Version) -> Cell:
        row = self._cells.get((category.module_id, task.module_id))
        network = None if row is None or row.version_id is None else self._networks[row.version_id]
        return Cell(category, task, row, network)

    def cell(self, category: str, task: str) -> Cell:
        """The cell of these names.

        Raises:
            NotFound: there is no such row, or no such column.
        """
        return self._cell(self.member(category, "category"), self.member(task, "task"))

    def member(self, name: str, kind: str) -> Version:
        """The version that the cells of a row or column are of.

        Raises:
            NotFound: with what is near.
        """
        there = {each.module.name: each for each in (self.categories if kind == "category" else self.tasks)}
        if name not in there:
            close = near(name, there)
            raise NotFound(
                f"{self.generic.name} has no {kind} {name}",
                hint=f"it has {', '.join(close or list(there)[:5]) or 'none'}",
                near=close,
            )
        return there[name]


def grid(session: Session, generic: Module) -> Grid:
    """Everything, in three queries."""
    query = select(GenericMember, Version).join(Version, Version.id == GenericMember.version_id)
    query = query.where(GenericMember.generic_id == generic.id).order_by(GenericMember.place, GenericMember.member_id)
    members = [row[1] for row in session.execute(query)]
    rows = session.scalars(select(GenericCell).where(GenericCell.generic_id == generic.id)).all()
    ids = [row.version_id for row in rows if row.version_id is not None]
    return Grid(
        generic,
        [each for each in members if each.module.kind == "category"],
        [each for each in members if each.module.kind == "task"],
        {(row.category_id, row.task_id): row for row in rows},
        {each.id: each for each in session.scalars(select(Version).where(Version.id.in_(ids)))},
    )


def cell_row(session: Session, generic: Module, cell: Cell) -> GenericCell:
    """The row of a cell, made where it is the first."""
    if cell.row is not None:
        return cell.row
    category_id, task_id = cell.place
    row = GenericCell(generic_id=generic.id, category_id=category_id, task_id=task_id)
    session.add(row)
    session.flush()
    return row


def cells_of(session: Session, name: str) -> list[int]:
    """The ids of the networks of the cells; none where there is no such generic network any more."""
    query = select(GenericCell.version_id).join(Module, Module.id == GenericCell.generic_id)
    return [id_ for id_ in session.scalars(query.where(Module.name == name)) if id_ is not None]

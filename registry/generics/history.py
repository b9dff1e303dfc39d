"""The history of a generic network, in references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.spec.generic import ChangeAction, ChangeOut
from graftery.spec.wire import Page
from registry.access import audit
from registry.catalogue.find import changed
from registry.generics.rows import Cell
from registry.models import GenericChange, Module, Version
from registry.pages import clamp, cut, read_cursor

Became = tuple[Cell, Version | None, Version | None]
"""A cell, its network before, and after."""


def note(
    session: Session,
    generic: Module,
    action: ChangeAction,
    *,
    members: Mapping[str, tuple[Version | None, Version | None]] = {},
    cells: Sequence[Became] = (),
    jobs: Sequence[str] = (),
    undoes: int | None = None,
    by: str | None = None,
) -> GenericChange:
    """Write down a change, here and in the audit log.

    Args:
        members: name to its version before and after.
        jobs: that made what came in.
        by: by default the caller.
    """
    details = {
        "members": {name: [_ref(old), _ref(new)] for name, (old, new) in members.items()},
        "cells": [
            {
                "category": cell.category.module.name,
                "task": cell.task.module.name,
                "old": _ref(old),
                "new": _ref(new),
            }
            for cell, old, new in cells
        ],
        "jobs": list(jobs),
    }
    row = GenericChange(generic_id=generic.id, action=action, by=audit.author(by), details=details, undoes=undoes)
    session.add(row)
    changed(generic)
    audit.note(session, "generic", f"{generic.name}: {action}", generic.name, by=by, cells=len(cells) or None)
    return row


def _ref(version: Version | None) -> str | None:
    return None if version is None else version.ref


def change_out(row: GenericChange) -> ChangeOut:
    return ChangeOut(
        id=row.id,
        action=row.action,
        at=row.at,
        by=row.by,
        members=row.details.get("members", {}),
        cells=row.details.get("cells", []),
        jobs=row.details.get("jobs", []),
        undoes=row.undoes,
    )


def list_changes(session: Session, generic: Module, *, cursor: str | None = None, limit: int = 50) -> Page[ChangeOut]:
    """Its changes, the newest first."""
    limit, after = clamp(limit), read_cursor(cursor, int)
    query = select(GenericChange).where(GenericChange.generic_id == generic.id)
    query = query.order_by(GenericChange.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(GenericChange.id < after[0])
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.id,))
    return Page[ChangeOut](items=[change_out(row) for row in rows], next=following)

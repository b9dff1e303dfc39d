"""Names that a request is about to give: refused before bytes are sent or a job is queued, where they cannot be had."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from graftery.errors import Conflict
from graftery.spec.manifest import Kind
from graftery.spec.names import check_name
from registry import catalogue
from registry.access import caller
from registry.db import Database


def check(database: Database, wanted: Mapping[str, tuple[Kind, ...]]) -> None:
    """`check_in` in a transaction of its own."""
    with database.read() as session:
        check_in(session, wanted)


def check_in(session: Session, wanted: Mapping[str, tuple[Kind, ...]]) -> None:
    """Refuse names that are not allowed, are not the caller's to give, or belong to another kind.

    Raises:
        GrafteryError: `name_invalid`.
        AccessRefused: `forbidden`.
        Conflict: `kind_conflict`, naming the kind that has the name.
    """
    for name, kinds in wanted.items():
        caller.check_name(check_name(name))
        kind = catalogue.kind_of(session, name)
        if kind is not None and kind not in kinds:
            raise Conflict(
                f"{name} is of kind {kind}, and takes no version of kind {' or '.join(kinds)}",
                code="kind_conflict",
                hint="choose another name: all kinds share one name space",
            )

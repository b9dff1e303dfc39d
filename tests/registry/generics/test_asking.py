"""A generic network as it is asked: its cells now, and a stamp that is another one whenever they are."""

from __future__ import annotations

import pytest

from graftery.errors import Conflict, NotFound
from registry import catalogue, generics, jobs
from registry.db import Database
from registry.generics.asking import CellNow, Stamp, now, served, stamp
from registry.generics.rows import cell_row
from tests.support.registry import put, put_network

ZOO = "zoo"


@pytest.fixture
def zoo(database: Database) -> Database:
    """Two categories under one task; one cell has a network."""
    with database.transaction() as session:
        cat, dog, task = put(session, "cat", "f"), put(session, "dog", "g"), put(session, "is", "t", "task")
        put_network(session, "n", cat, task)
        generics.create(session, ZOO)
        generics.add(session, ZOO, [cat, dog, task])
    return database


def _stamp(database: Database) -> Stamp:
    with database.read() as session:
        return stamp(session, ZOO)


def _cells(database: Database) -> list[CellNow]:
    with database.read() as session:
        return now(session, ZOO).cells


def _told(cells: list[CellNow]) -> list[tuple[str, str, str | None, str, str | None]]:
    return [
        (cell.category, cell.task, cell.network.ref if cell.network else None, cell.state, cell.reason)
        for cell in cells
    ]


def test_each_cell_has_its_network_or_why_there_is_none(zoo: Database) -> None:
    assert _told(_cells(zoo)) == [("cat", "is", "n:1", "ready", None), ("dog", "is", None, "missing", None)]
    with zoo.read() as session:
        assert now(session, ZOO).stamp == stamp(session, ZOO)
        parts = frozenset(
            {*(generics.grid(session, generics.find(session, ZOO)).cells[0].network.parts or {}).values()}
        )
        assert [(each.name, each.number, each.parts) for each in served(session)] == [(ZOO, 2, parts)]


def test_the_stamp_follows_the_states_of_unready_cells(zoo: Database) -> None:
    seen = [_stamp(zoo)]
    with zoo.transaction() as session:
        job = jobs.submit(session, kind="transplant", request={}, recipe={}, pinned={})
        generic = generics.find(session, ZOO)
        generics.order(session, generic, generics.grid(session, generic).cell("dog", "is"), job.id)
    seen.append(_stamp(zoo))
    assert _told(_cells(zoo))[1][3] == "running"
    with zoo.transaction() as session:
        jobs.get(session, job.id).progress = {"step": 3}
    assert _stamp(zoo) == seen[-1]
    with zoo.transaction() as session:
        jobs.request_cancel(session, job.id)
    seen.append(_stamp(zoo))
    assert _told(_cells(zoo))[1][3:] == ("failed", "its job has cancelled")
    with zoo.transaction() as session:
        generic = generics.find(session, ZOO)
        row = cell_row(session, generic, generics.grid(session, generic).cell("dog", "is"))
        row.rejected = {"network": "x:1", "job": "j", "reason": "9 points below"}
    seen.append(_stamp(zoo))
    assert _told(_cells(zoo))[1][3:] == ("rejected", "9 points below")
    assert len(set(seen)) == len(seen) == 4 and {each.number for each in seen} == {2}


def test_the_stamp_counts_changes_and_survives_no_new_network_of_the_name(zoo: Database) -> None:
    before = _stamp(zoo)
    with zoo.transaction() as session:
        generics.remove(session, ZOO, "dog")
    assert _stamp(zoo).number == before.number + 1
    with zoo.transaction() as session:
        generics.delete(session, ZOO)
    with zoo.transaction() as session:
        generics.create(session, ZOO)
        generics.add(session, ZOO, [catalogue.resolve(session, name) for name in ("cat", "dog", "is")])
    after = _stamp(zoo)
    assert after.number == before.number and after != before


def test_other_names_are_refused(zoo: Database) -> None:
    with zoo.read() as session:
        with pytest.raises(NotFound, match="zooo"):
            stamp(session, "zooo")
        with pytest.raises(Conflict, match="is of kind category"):
            now(session, "cat")

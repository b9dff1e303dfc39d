"""What is foretold of names is what happens: every version is yanked in turn, and every reference asked before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.errors import NotFound
from graftery.spec.impact import ImpactOut, NameImpact
from registry import catalogue
from registry.db import Database
from registry.models import Alias, Module, Version
from tests.support.registry import put, put_network


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """Names of all sorts: with a default and without, with aliases, yanked at their end, of one version and of several."""
    with database.transaction() as session:
        teacher = put(session, "cat-teacher", "net", "teacher")
        cut = [("teacher", teacher.id)]
        cat, dog = put(session, "cat", "f", parents=cut), put(session, "dog", "f2")
        put(session, "cat", "g", parents=cut)
        task = put(session, "is", "t", "task")
        h = [put(session, "h", text, "adapter", parents=[("category", cat.id), ("task", task.id)]) for text in "abc"]
        for adapter in h:
            put_network(session, "steady", cat, task, adapter)
        for adapter in h[:2]:
            put_network(session, "newest", cat, task, adapter)
        catalogue.delete_alias(session, "newest", "default")
        put_network(session, "alone", cat, task)
        put_network(session, "wanders", dog, task)
        put_network(session, "wanders", cat, task, h[0])
        catalogue.delete_alias(session, "wanders", "default")
        put_network(session, "of-dog", dog, task, h[1])
        put_network(session, "hidden", dog, task, h[2])
        catalogue.yank(session, "hidden:1", "bad")
        clone = put(session, "owl", "o", "clone", parents=[("target", catalogue.resolve(session, "steady").id)])
        put_network(session, "steady", cat, task, h[0], (clone,))
        put(session, "again", "f")  # the bytes of cat:1 under another name
        for name, alias, number in (
            ("steady", "stable", 2), ("newest", "stable", 1), ("cat", "old", 1), ("h", "best", 2), ("h", "default", 1),
        ):  # fmt: skip
            catalogue.set_alias(session, name, alias, number)
        catalogue.yank(session, "h:3", "bad")
        yield session


def _leads(session: Session) -> dict[str, str | None]:
    """Every reference that names no number, and the version that it leads to; None: it is refused."""
    names = list(session.scalars(select(Module.name)))
    refs = [*names, *(f"{name}@latest" for name in names)]
    refs += [
        f"{row.version.module.name}@{row.alias}" for row in session.scalars(select(Alias)) if row.alias != "default"
    ]
    found: dict[str, str | None] = {}
    for ref in refs:
        try:
            found[ref] = catalogue.resolve(session, ref).ref
        except NotFound:
            found[ref] = None
    return found


def _outputs(session: Session) -> dict[str, dict[str, str]]:
    """Of each category module, the networks under it, and the version that answers for each."""
    categories = session.scalars(select(Version).join(Module).where(Module.kind == "category"))
    return {row.ref: {each.module.name: each.ref for each in catalogue.networks_of(session, row)} for row in categories}


def _versions(session: Session) -> list[tuple[str, str]]:
    return [(row.ref, row.module.name) for row in session.scalars(select(Version).order_by(Version.id))]


def _check(session: Session, found: ImpactOut, yanked: list[str]) -> None:
    """Yank them, compare with what was foretold, and take it back."""
    leads, outputs = _leads(session), _outputs(session)
    with session.begin_nested() as savepoint:
        for ref in yanked:
            catalogue.yank(session, ref, "bad")
        then, outputs_then = _leads(session), _outputs(session)
        savepoint.rollback()
    session.expire_all()
    own = {name.reference: name for name in found.names if not name.outputs}
    assert {ref for ref, name in own.items() if name.breaks} == {ref for ref in leads if leads[ref] != then[ref]}
    for reference, name in own.items():
        assert name.ref == leads[reference]
        assert name.then == (then[reference] if name.effect == "moved" else None)
        assert (name.effect == "no_longer_resolved") == (then[reference] is None)
    touched = [name for name in found.names if name.outputs]
    assert {name.ref for name in touched} == {
        ref for ref in outputs if any(outputs_then[ref].get(name) != version for name, version in outputs[ref].items())
    }
    for name in touched:
        _check_outputs(name, outputs[name.ref], outputs_then[name.ref])


def _check_outputs(name: NameImpact, before: dict[str, str], after: dict[str, str]) -> None:
    [network] = name.outputs
    assert network in before and name.served
    if network in after:
        assert (name.effect, name.then) == ("moved", after[network])
    else:
        assert name.effect == ("fewer_outputs" if after else "not_ready")


def test_every_version_in_turn(session: Session) -> None:
    effects: set[str] = set()
    for ref, _ in _versions(session):
        found = catalogue.version_impact(session, ref)
        effects |= {name.effect for name in found.names}
        _check(session, found, [ref])
    assert effects == {
        "still_served", "still_resolved", "moved", "fewer_outputs", "no_longer_resolved", "not_ready",
    }, "each of them happens here"  # fmt: skip


def test_every_name_in_turn(session: Session) -> None:
    for name in session.scalars(select(Module.name)).all():
        refs = [ref for ref, of in _versions(session) if of == name]
        _check(session, catalogue.name_impact(session, name), refs)


def test_served_is_what_answers_under_v2(session: Session) -> None:
    outputs = _outputs(session)
    for ref, _ in _versions(session):
        for name in catalogue.version_impact(session, ref).names:
            assert name.served == (name.kind == "network" or bool(outputs.get(name.ref)))


def test_what_breaks_and_is_served_comes_first(session: Session) -> None:
    def short(found: ImpactOut) -> list[tuple[Any, ...]]:
        return [(name.reference, name.effect, name.default) for name in found.names]

    assert short(catalogue.version_impact(session, "steady:1")) == [
        ("cat@old", "fewer_outputs", False),
        ("steady", "no_longer_resolved", True),
    ]
    ranks = [
        (name.served and name.breaks, name.breaks, name.served) for name in catalogue.name_impact(session, "cat").names
    ]
    assert ranks == sorted(ranks, reverse=True)

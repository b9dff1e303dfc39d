from __future__ import annotations

import pytest

from benchmarks.registry import scaling, seed
from registry import catalogue
from registry.db import Database
from tests.support.registry import put

FEW = seed.population(200)


@pytest.fixture
def filled(database: Database) -> Database:
    seed.fill(database, FEW)
    return database


def test_a_population_has_so_many_versions() -> None:
    assert (FEW.versions, FEW.big, len(FEW.names)) == (200, 20, 18)
    assert seed.population(1000, with_big=False).big == 0


def test_rows_are_what_publishing_leaves(filled: Database) -> None:
    with filled.transaction() as session:
        page = catalogue.list_modules(session)
        assert (page.items[0].name, page.items[0].versions, page.items[0].latest) == (seed.BIG, FEW.big, FEW.big)
        version = catalogue.version_out(session, catalogue.resolve(session, f"{FEW.names[3]}:2"))
        assert (version.manifest is not None, version.facts is not None, version.tags) == (True, True, ["common"])
        assert catalogue.resolve(session, f"{seed.BIG}@{seed.ALIAS}").number == 1
        assert [each.new for each in catalogue.alias_history(session, seed.BIG, seed.ALIAS)] == [1]
        digest = f"{seed.first_of(seed.BIG, FEW):064x}"
        assert catalogue.resolve(session, f"{seed.BIG}@sha256:{digest}").number == 1
        # What is written afterwards gets ids of its own.
        catalogue.set_alias(session, FEW.names[0], "moved", 4)
        assert put(session, "new").number == 1


@pytest.mark.parametrize("name", list(scaling.OPERATIONS))
def test_every_request_is_about_rows_that_are_there(name: str) -> None:
    asks = scaling.asked(name, FEW)
    assert len(asks) == scaling.ASKED
    assert all(ask.method == "GET" and ask.expected for ask in asks)

from __future__ import annotations

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from graftery.errors import Conflict, GrafteryError, NotFound
from graftery.spec.wire import ModulePatch
from registry import catalogue
from registry.db import Database
from tests.support.plans import plans
from tests.support.registry import put, put_network


def names(session: Session, **wanted: object) -> list[str]:
    return [module.name for module in catalogue.list_modules(session, **wanted).items]


def test_filters(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", "1", description="Finds 100% of CATS", tags=["pet", "a_b"])
        put(session, "dog", "2", description="no cats", tags=["pet"])
        put(session, "is", "3", "task", tags=["axb"])
        assert names(session) == ["is", "dog", "cat"]
        assert names(session, kind="category") == ["dog", "cat"]
        assert names(session, tag="pet") == ["dog", "cat"]
        assert names(session, tag="a_b") == ["cat"]
        assert names(session, q="cAt") == ["dog", "cat"]
        assert names(session, q="0%") == ["cat"]
        assert names(session, q="%") == ["cat"]
        assert names(session, q="\x00") == []
        assert names(session, q="do", kind="task") == []


def test_what_a_module_shows(database: Database) -> None:
    with database.transaction() as session:
        for text in "123":
            put(session, "cat", text, tags=[text])
        catalogue.set_alias(session, "cat", "stable", 2)
        catalogue.yank(session, "cat:3", "bad")
        out = catalogue.module_out(session, catalogue.get_module(session, "cat"))
        assert (out.versions, out.latest, out.aliases, out.tags) == (3, 2, {"stable": 2}, ["1", "2", "3"])
        assert out.updated_at >= out.created_at
        versions = catalogue.list_versions(session, "cat").items
        assert [(v.version, v.yanked, v.aliases, v.tags) for v in versions] == [
            (3, True, [], ["3"]),
            (2, False, ["stable"], ["2"]),
            (1, False, [], ["1"]),
        ]


def test_pages_show_each_row_once_whatever_comes_meanwhile(database: Database) -> None:
    with database.transaction() as session:
        for index in range(7):
            put(session, f"m{index}", "x")
            put(session, "many", str(index))
    seen, cursor = [], None
    for turn in range(10):
        with database.transaction() as session:
            put(session, f"later{turn}", "x")
            put(session, f"m{turn % 7}", f"changed {turn}")
        with database.read() as session:
            page = catalogue.list_modules(session, cursor=cursor, limit=3, q="m")
        seen += [module.name for module in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == [*(f"m{index}" for index in reversed(range(1, 7))), "many", "m0"]


def test_pages_of_versions(database: Database) -> None:
    with database.transaction() as session:
        for index in range(5):
            put(session, "cat", str(index))
        first = catalogue.list_versions(session, "cat", limit=3)
        second = catalogue.list_versions(session, "cat", limit=3, cursor=first.next)
        with pytest.raises(NotFound):
            catalogue.list_versions(session, "missing")
        with pytest.raises(GrafteryError):
            catalogue.list_versions(session, "cat", cursor="?")
    assert [version.version for version in first.items] == [5, 4, 3]
    assert [version.version for version in second.items] == [2, 1]
    assert second.next is None


def test_a_page_costs_the_same_queries_whatever_its_size(database: Database) -> None:
    with database.transaction() as session:
        for index in range(20):
            put(session, f"m{index}", str(index), tags=["t"])
    counts = []
    for limit in (2, 20):
        statements: list[str] = []
        event.listen(database.engine, "before_cursor_execute", lambda *args, log=statements: log.append(args[2]))
        with database.read() as session:
            assert len(catalogue.list_modules(session, limit=limit).items) == limit
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 6


def test_patch(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", tags=["old"], description="text")
        catalogue.update_module(session, "cat", ModulePatch(tags=["new", "new", "2"]))
        out = catalogue.module_out(session, catalogue.get_module(session, "cat"))
        assert (out.description, out.tags) == ("text", ["2", "new"])
        catalogue.update_module(session, "cat", ModulePatch(description="# Other"))
        out = catalogue.module_out(session, catalogue.get_module(session, "cat"))
        assert (out.description, out.tags) == ("# Other", ["2", "new"])


def test_every_change_is_another_etag(database: Database) -> None:
    with database.transaction() as session:
        module = put(session, "cat", "1").module
        tags = [catalogue.module_etag(module)]
        for change in (
            lambda: put(session, "cat", "2"),
            lambda: catalogue.update_module(session, "cat", ModulePatch(description="x")),
            lambda: catalogue.set_alias(session, "cat", "stable", 1),
            lambda: catalogue.delete_alias(session, "cat", "stable"),
            lambda: catalogue.yank(session, "cat:1", "bad"),
            lambda: catalogue.unyank(session, "cat:1"),
            lambda: catalogue.delete_version(session, "cat:2"),
        ):
            change()
            tags.append(catalogue.module_etag(catalogue.get_module(session, "cat")))
    assert len(set(tags)) == len(tags)


def test_if_match(database: Database) -> None:
    with database.transaction() as session:
        etag = catalogue.module_etag(put(session, "cat").module)
    patch = ModulePatch(description="x")
    for form in ("{}", "*", '"other", {}'):
        with database.transaction() as session:
            etag = catalogue.module_etag(catalogue.update_module(session, "cat", patch, form.format(etag)))
    for wanted in ('"1-1"', "", "W/" + etag):
        with pytest.raises(Conflict) as error, database.transaction() as session:
            catalogue.update_module(session, "cat", patch, wanted)
        assert error.value.code == "precondition_failed"


def test_a_deleted_names_etag_does_not_come_back(database: Database) -> None:
    with database.transaction() as session:
        old = catalogue.module_etag(put(session, "cat").module)
        catalogue.delete_module(session, "cat")
        assert catalogue.module_etag(put(session, "cat").module) != old


def test_served_networks(database: Database) -> None:
    with database.transaction() as session:
        category, task = put(session, "cat", "c"), put(session, "is", "t", "task")
        adapters = [put(session, "h", str(index), "adapter") for index in range(2)]
        for name in ("b", "a"):
            for adapter in adapters:
                put_network(session, name, category, task, adapter)
        catalogue.yank(session, "a:1", "bad")
        put_network(session, "gone", category, task)
        catalogue.yank(session, "gone:1", "bad")
        found = [(module.name, [v.number for v in versions]) for module, versions in catalogue.served_networks(session)]
    assert found == [("a", [2]), ("b", [1, 2])]


def test_pages_of_a_tag(database: Database) -> None:
    with database.transaction() as session:
        for number in range(7):
            put(session, f"n{number}", str(number), tags=["odd" if number % 2 else "even", "all"])
    with database.read() as session:
        first = catalogue.list_modules(session, tag="even", limit=3)
        second = catalogue.list_modules(session, tag="even", limit=3, cursor=first.next)
    assert [module.name for page in (first, second) for module in page.items] == ["n6", "n4", "n2", "n0"]
    assert second.next is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_list_looks_at_all_names(database: Database) -> None:
    with database.transaction() as session:
        put(session, "cat", tags=["pet"])

    def look() -> None:
        with database.read() as session:
            assert names(session, tag="pet") == names(session, kind="category") == ["cat"]
            catalogue.list_versions(session, "cat")

    found = plans(database, look)
    assert len(found) > 5
    assert [plan for plan in found if "SCAN modules" in plan or "SCAN versions" in plan] == []
    assert [plan for plan in found if "modules" in plan and "TEMP B-TREE" in plan] == []


def test_versions_are_counted_once(database: Database) -> None:
    """Also where a process that does not know the count publishes meanwhile."""
    with database.transaction() as session:
        for text in "123":
            put(session, "cat", text)
        catalogue.delete_version(session, "cat:2")
    asked: list[str] = []

    def look() -> tuple[int, int | None]:
        with database.read() as session:
            (found,) = catalogue.list_modules(session).items
            return found.versions, found.latest

    event.listen(database.engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: asked.append(statement))
    assert look() == (2, 3)
    assert [statement for statement in asked if "count(" in statement] == []
    with database.transaction() as session:
        module = catalogue.get_module(session, "cat")
        put(session, "cat", "4")
        catalogue.yank(session, "cat:4", "bad")
        module.version_count, module.counted_to = 2, 3
    assert look() == (3, 3)

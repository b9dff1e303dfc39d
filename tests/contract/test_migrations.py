"""The migrations make exactly the tables of registry/models.py, however many processes run them at once."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.types import TypeDecorator

from graftery.errors import Unavailable
from registry.db import Database, check_head, downgrade, upgrade
from registry.models import Base
from registry.settings import Settings
from tests.support.crowd import in_processes, upgrade_schema
from tests.support.registry import put

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'graftery.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.dispose()


def tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names())


def differences(database: Database) -> list[object]:
    with database.read() as session:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(session.connection(), opts=options)
        return list(compare_metadata(context, Base.metadata))


def test_migrations_make_the_models_tables(empty: Database, empty_url: str) -> None:
    upgrade(Settings(database_url=empty_url))
    assert differences(empty) == []
    check_head(empty)


def _clauses(sql: str) -> list[str]:
    """What stands between the commas of a statement, those inside brackets aside; a column that was added is written last."""
    head, _, rest = sql.partition("(")
    body, _, tail = rest.rpartition(")")
    clauses = re.split(r",(?![^()]*\))", body)
    return [" ".join(head.split()), *sorted(" ".join(clause.split()) for clause in clauses), tail.strip()]


def test_sqlite_tables_are_the_same_to_the_letter(tmp_path: Path) -> None:
    """The comparison above does not see everything, AUTOINCREMENT for one."""
    made = []
    for name in ("migrated", "created"):
        url = f"sqlite:///{tmp_path / name}.db"
        database = Database(url)
        upgrade(Settings(database_url=url)) if name == "migrated" else Base.metadata.create_all(database.engine)
        query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
        with database.read() as session:
            rows = session.execute(text(query)).all()
        made.append({row[0]: _clauses(row[1]) for row in rows})
        database.dispose()
    assert made[0] == made[1]


def test_the_comparison_sees_a_difference(empty: Database, empty_url: str) -> None:
    upgrade(Settings(database_url=empty_url))
    with empty.transaction() as session:
        session.execute(text("ALTER TABLE modules ADD COLUMN extra int"))
        session.execute(text("DROP INDEX ix_edges_parent_id"))
    assert len(differences(empty)) == 2


def test_down_and_up_again(empty: Database, empty_url: str) -> None:
    settings = Settings(database_url=empty_url)
    upgrade(settings)
    downgrade(settings, "base")
    assert tables(empty) == {"alembic_version"}
    with pytest.raises(Unavailable):
        check_head(empty)
    upgrade(settings)
    assert differences(empty) == []


def test_each_step_down_and_up(empty: Database, empty_url: str) -> None:
    settings = Settings(database_url=empty_url)
    script = ScriptDirectory(str(ROOT / "migrations"))
    for step in reversed(list(script.walk_revisions())):
        upgrade(settings, step.revision)
        downgrade(settings, step.down_revision or "base")  # type: ignore[arg-type]
        upgrade(settings, step.revision)
    assert differences(empty) == []


def test_an_upgrade_keeps_the_rows(empty: Database, empty_url: str) -> None:
    settings = Settings(database_url=empty_url)
    upgrade(settings)
    with empty.transaction() as session:
        put(session, "cat")
    upgrade(settings)
    with empty.transaction() as session:
        assert put(session, "cat").ref == "cat:1"


def _value(column: Column[Any]) -> Any:
    """Some value of a column: what it refers to has the same ones."""
    if column.foreign_keys and column.table in {key.column.table for key in column.foreign_keys}:
        return None
    kinds: list[tuple[type[Any], Any]] = [
        (Boolean, True),
        (JSON, {"zebra": 1, "ant": [2]}),
        (LargeBinary, b"bytes"),
        (DateTime, datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)),
        (Integer, 7),
        (String, "text"),
    ]
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    return next(value for type_, value in kinds if isinstance(kind, type_))


def _rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables as they are now."""
    found = MetaData()
    found.reflect(database.engine)
    with database.read() as session:
        return {
            name: [dict(row._mapping) for row in session.execute(select(table))]
            for name, table in found.tables.items()
            if name != "alembic_version"
        }


def _same_where_both_are(some: dict[str, list[dict[str, Any]]], others: dict[str, list[dict[str, Any]]]) -> bool:
    pairs = [
        (row, other) for name in some if name in others for row, other in zip(some[name], others[name], strict=True)
    ]
    return all(row[column] == other[column] for row, other in pairs for column in row.keys() & other.keys())


def test_down_and_up_again_with_rows_in_every_table(empty: Database, empty_url: str) -> None:
    settings = Settings(database_url=empty_url)
    upgrade(settings)
    with empty.transaction() as session:
        for table in Base.metadata.sorted_tables:
            session.execute(insert(table).values({column.name: _value(column) for column in table.columns}))
    full = _rows(empty)
    assert all(len(rows) == 1 for rows in full.values()) and len(full) == len(Base.metadata.tables)
    steps = list(ScriptDirectory(str(ROOT / "migrations")).walk_revisions())
    for step in steps[:-1]:
        downgrade(settings, str(step.down_revision))
        left = _rows(empty)
        assert _same_where_both_are(left, full), step.revision
        assert {"jobs", "versions", "blobs"} <= left.keys()
    upgrade(settings)
    again = _rows(empty)
    assert _same_where_both_are(again, left) and all(again[name] for name in left)
    assert differences(empty) == []


def test_four_processes_at_once(empty: Database, empty_url: str, tmp_path: Path) -> None:
    in_processes(upgrade_schema, 4, empty_url, tmp_path)
    assert differences(empty) == []


def test_an_upgrade_that_fails_leaves_nothing(empty: Database, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    def fail(*_args: object, **_kw: object) -> None:
        raise RuntimeError

    settings = Settings(database_url=empty_url)
    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", fail)
        with pytest.raises(RuntimeError):
            upgrade(settings)
    assert tables(empty) == set()
    upgrade(settings)
    assert differences(empty) == []


_TAKES_AWAY = {"drop_table", "drop_column", "drop_constraint", "drop_index", "alter_column", "rename_table", "execute"}


def _taken_away(path: Path) -> list[str]:
    """What a migration takes from the version before on its way up."""
    functions = [each for each in ast.parse(path.read_text()).body if isinstance(each, ast.FunctionDef)]
    calls = [
        node.func
        for each in functions
        if each.name != "downgrade"
        for node in ast.walk(each)
        if isinstance(node, ast.Call)
    ]
    return [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in _TAKES_AWAY]


def test_an_upgrade_only_adds(tmp_path: Path) -> None:
    """What runs goes on while a newer version upgrades the tables under it (docs/operations.md)."""
    scripts = sorted((ROOT / "migrations/versions").glob("*.py"))
    assert {script.name: _taken_away(script) for script in scripts} == {script.name: [] for script in scripts}
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "def upgrade():\n    with op.batch_alter_table('jobs') as jobs:\n        jobs.drop_column('worker')\n"
    )
    assert _taken_away(wrong) == ["drop_column"]


def test_there_is_one_head() -> None:
    assert len(ScriptDirectory(str(ROOT / "migrations")).get_heads()) == 1


@pytest.mark.parametrize("command", [["-m", "migrations"], ["-m", "alembic", "upgrade", "head"]])
def test_the_command_lines(command: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "GRAFTERY_HOME": str(tmp_path)}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True)
    check_head(Database(Settings(home=tmp_path).database))

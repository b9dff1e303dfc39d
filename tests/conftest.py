"""Servers and databases for all tests, and the rule about skips.

A test that is skipped proves nothing: a skip whose test is not on allowed_skips.txt fails the run.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.db import Database, upgrade
from registry.models import Base
from registry.settings import Settings
from tests.support import scheduling, servers
from tests.support.s3 import bucket_url, s3_endpoint  # noqa: F401  (fixtures)
from tests.support.service import service  # noqa: F401  (a fixture)
from tests.support.timing import Times

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
_SKIPPED = pytest.StashKey[list[tuple[str, str]]]()


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPPED] = []
    # Deriving a module takes seconds of a core: tests that are about it say so.
    os.environ.setdefault("GRAFTERY_FAST_FORMS", "off")
    if not _is_worker(config):
        servers.open_folder()
        if memory := servers.memory():  # a commit of SQLite waits for the disk, ten milliseconds each time
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", memory)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not _is_worker(config):
        servers.close_folder()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first."""
    items.sort(key=lambda item: scheduling.place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.Rooms | None:
    return scheduling.Rooms(config, log) if config.getvalue("dist") == "loadfile" else None


class _Skips:
    """Sees every report of the run: the workers send theirs to the process that has this plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and not _allowed(report.nodeid):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.config.stash[_SKIPPED].append((report.nodeid, reason))


def _allowed(nodeid: str) -> bool:
    lines = (line.split("#")[0].strip() for line in ALLOWED_SKIPS.read_text().splitlines())
    return any(fnmatch.fnmatchcase(nodeid, line) for line in lines if line)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if not _is_worker(session.config):
        session.config.pluginmanager.register(_Skips(session.config), "graftery-skips")
        session.config.pluginmanager.register(Times(), "graftery-times")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[_SKIPPED] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for nodeid, reason in config.stash[_SKIPPED]:
        terminalreporter.write_line(f"SKIP NOT ALLOWED {nodeid}: {reason} (tests/allowed_skips.txt)", red=True)


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """URL of a running PostgreSQL, of a user who may create databases."""
    return os.environ.get("TEST_DATABASE_URL") or servers.server("postgresql")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty PostgreSQL database of the test's own."""
    with servers.new_database(postgres_server) as url:
        yield url


@pytest.fixture
def redis_url() -> Iterator[str]:
    """URL of an empty Redis database of the test's own."""
    with servers.new_redis() as url:
        yield url


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "graftery.db"
    upgrade(Settings(database_url=f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def _postgres_database(postgres_server: str) -> Iterator[str]:
    """One database a worker, its schema up to date."""
    with servers.new_database(postgres_server) as url:
        upgrade(Settings(database_url=url))
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without rows, its schema up to date: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "graftery.db"
        shutil.copy(request.getfixturevalue("_sqlite_template"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("_postgres_database")
    servers.empty(url, (table.name for table in reversed(Base.metadata.sorted_tables)))
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A `Database` of the test's own."""
    made = Database(database_url)
    yield made
    made.dispose()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings with the test's own database and home."""
    return Settings(database_url=database_url, home=tmp_path / "home", free_bytes=0)

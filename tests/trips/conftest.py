"""The two settings of the trips: SQLite with the embedded queue, PostgreSQL with Redis; real processes in both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import servers
from tests.support.service import Service, serving


@pytest.fixture(scope="session", params=[pytest.param("embedded", marks=pytest.mark.slow), "production"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service: API, inference and one worker."""
    home = tmp_path_factory.mktemp(f"home-{request.param}")
    if request.param == "embedded":
        with serving(home, fast_forms="auto") as running:
            yield running
        return
    postgres = request.getfixturevalue("postgres_server")
    with (
        servers.new_database(postgres) as database,
        servers.new_redis() as broker,
        # A poll that never comes while the tests run: a job that starts was woken through Redis.
        serving(home, database_url=database, broker_url=broker, poll_s="3600") as running,
    ):
        yield running

"""The rules of the test run itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support import servers
from tests.support.timing import Times

ROOT = Path(__file__).resolve().parents[1]
SKIPS = "tests/support/broken_skips.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    plugins = ["-p", "no:cacheprovider", "-p", "xdist.plugin", "-p", "pytest_timeout"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "GRAFTERY_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, *arguments],
        cwd=ROOT,
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # half of the time to start
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_skip_that_is_not_listed_fails_the_run(workers: str) -> None:
    done = run("-n", workers, SKIPS)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert f"SKIP NOT ALLOWED {SKIPS}::test_that_is_skipped: Skipped: no reason" in done.stdout
    assert done.stdout.count("SKIP NOT ALLOWED") == 1
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout


def test_a_long_run_tells_which_files_took_longest() -> None:
    times = Times()

    def report(nodeid: str, seconds: float) -> None:
        times.pytest_runtest_logreport(
            pytest.TestReport(nodeid, ("", None, ""), {}, "passed", None, "call", (), seconds)
        )

    report("tests/trips/test_clones.py::test_a", 40)
    assert times.told() == []
    report("tests/app/test_serve.py::test_b", 35.4)
    report("tests/trips/test_trips.py::test_c", 5)  # goes together with the first one
    head, *rooms = times.told()
    assert "80 s" in head
    assert [line.split() for line in rooms] == [
        ["45", "s", "tests/trips/test_clones.py"],
        ["35", "s", "tests/app/test_serve.py"],
    ]


def test_each_listed_skip_is_a_test() -> None:
    lines = (line.split("#") for line in (ROOT / "tests/allowed_skips.txt").read_text().splitlines())
    for place, reason in [line for line in lines if line[0].strip()]:
        assert (ROOT / place.strip().split("::")[0]).exists(), place
        assert reason.strip()


def test_servers_end_with_the_run_that_was_killed(tmp_path: Path) -> None:
    """kill -9 of a test run leaves no server behind."""
    code = (
        "import time; from tests.support import servers; servers.open_folder();"
        "print(servers.folder(), servers.server('redis'), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().split()[0])
    keeper = psutil.Process(int((folder / "redis.pid").read_text()))
    family = [keeper, *keeper.children(recursive=True)]
    assert len(family) == 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    assert not folder.exists()


def test_two_at_once_have_a_redis_database_each() -> None:
    """On one, a service's worker takes the message that was to wake another's."""
    import redis

    with servers.new_redis() as first, redis.Redis.from_url(first) as one:
        one.set("key", "value")
        with servers.new_redis() as second, redis.Redis.from_url(second) as other:
            assert other.dbsize() == 0
            assert one.dbsize() == 1
    for _ in range(70):  # more than there are
        with servers.new_redis() as again, redis.Redis.from_url(again) as one:
            assert one.dbsize() == 0
            one.set("key", "value")


def test_the_servers_are_real(postgres_url: str, redis_url: str) -> None:
    import psycopg
    import redis

    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        assert "PostgreSQL" in str(connection.execute("SELECT version()").fetchone())
        assert connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchone() == (0,)
    with redis.Redis.from_url(redis_url) as server:
        assert server.dbsize() == 0
        server.set("key", "value")

"""The pool of verifier processes: answers, refusals, deaths, lateness, and that none is left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from app.files.verifier import Verifier
from graftery.errors import GrafteryError, ModuleFileError, Unavailable
from graftery.spec.limits import Limits
from tests.support import pretend_verifier

COMMAND = (sys.executable, pretend_verifier.__file__)


@pytest.fixture
def pool() -> Iterator[Verifier]:
    made = Verifier(Limits(wall_s=1), 1, COMMAND)
    yield made
    made.close()


def _file(folder: Path, text: str) -> Path:
    path = folder / f"{text}.file"
    path.write_text(text)
    return path


def test_gives_what_the_child_found(pool: Verifier, tmp_path: Path) -> None:
    found = pool.verify(_file(tmp_path, "fine"))
    assert found.manifest == {"text": "fine"}
    assert found.facts["asked"]["limits"]["wall_s"] == 1


def test_a_child_is_kept_warm(pool: Verifier, tmp_path: Path) -> None:
    pids = {pool.verify(_file(tmp_path, "fine")).facts["pid"] for _ in range(3)}
    assert len(pids) == 1


def test_a_refusal_has_the_childs_code_and_hint(pool: Verifier, tmp_path: Path) -> None:
    with pytest.raises(ModuleFileError, match="from_file") as refused:
        pool.verify(_file(tmp_path, "refuse"))
    assert (refused.value.code, refused.value.hint) == ("operator_refused", "leave it out")


@pytest.mark.parametrize("how", ["die", "sleep"])
def test_a_file_that_ends_its_child_is_refused_and_the_next_is_checked(
    pool: Verifier, tmp_path: Path, how: str
) -> None:
    before = pool.verify(_file(tmp_path, "fine")).facts["pid"]
    began = time.monotonic()
    with pytest.raises(ModuleFileError) as refused:
        pool.verify(_file(tmp_path, how))
    assert refused.value.code == "verify_limit"
    assert time.monotonic() - began < 5
    assert pool.verify(_file(tmp_path, "fine")).facts["pid"] != before
    assert not psutil.pid_exists(before)


def test_a_file_whose_child_was_killed_by_something_else_is_checked_again(pool: Verifier, tmp_path: Path) -> None:
    assert pool.verify(_file(tmp_path, "die once")).manifest == {"text": "die once"}


def test_a_child_that_died_idle_costs_nobody_a_refusal(pool: Verifier, tmp_path: Path) -> None:
    pid = pool.verify(_file(tmp_path, "fine")).facts["pid"]
    psutil.Process(pid).kill()
    time.sleep(0.1)
    assert pool.verify(_file(tmp_path, "fine")).manifest == {"text": "fine"}


def test_an_answer_that_is_no_json_is_our_error(pool: Verifier, tmp_path: Path) -> None:
    with pytest.raises(GrafteryError) as failed:
        pool.verify(_file(tmp_path, "garbage"))
    assert failed.value.code == "internal"
    assert pool.verify(_file(tmp_path, "fine"))


def test_an_answer_to_an_earlier_question_is_passed_over(pool: Verifier, tmp_path: Path) -> None:
    assert pool.verify(_file(tmp_path, "late")).manifest == {"text": "late"}


def test_a_large_answer_takes_little_of_this_processs_time(tmp_path: Path) -> None:
    pool = Verifier(Limits(), 1, COMMAND)
    try:
        began = time.process_time()
        assert len(pool.verify(_file(tmp_path, "large")).manifest["text"]) == 50 * 1024**2
        assert time.process_time() - began < 2  # added up piece by piece, 50 MiB take ten seconds
    finally:
        pool.close()


def test_a_child_that_does_not_start_is_unavailable(tmp_path: Path) -> None:
    pool = Verifier(Limits(), 1, (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(Unavailable):
        pool.verify(_file(tmp_path, "fine"))


def test_children_work_at_once(tmp_path: Path) -> None:
    pool = Verifier(Limits(), 2, COMMAND)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(pool.verify, [_file(tmp_path, f"file{i}") for i in range(16)]))
        assert [each.manifest["text"] for each in found] == [f"file{i}" for i in range(16)]
        assert len({each.facts["pid"] for each in found}) <= 2
    finally:
        pool.close()


def test_a_child_knows_none_of_the_services_secrets(
    pool: Verifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFTERY_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment = pool.verify(_file(tmp_path, "fine")).facts["environment"]
    assert "secret" not in str(environment)
    assert environment["OMP_NUM_THREADS"] == "1"


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    path = _file(tmp_path, "fine")
    program = (
        "import sys; from pathlib import Path; from app.files.verifier import Verifier; from graftery.spec.limits import Limits\n"
        f"pool = Verifier(Limits(), 1, {COMMAND!r})\n"
        f"print(pool.verify(Path({str(path)!r})).facts['pid'], flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None and parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)

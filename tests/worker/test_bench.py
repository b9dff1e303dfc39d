from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from registry.settings import Settings
from worker.bench import SCRATCH_PREFIX, Bench, scratch


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_worker_left_is_swept(temporary: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    left, before_us, alive, other = (
        temporary / f"{SCRATCH_PREFIX}{dead.pid}-abc",
        temporary / f"{SCRATCH_PREFIX}{os.getpid()}-abc",  # of a container that was started anew
        temporary / f"{SCRATCH_PREFIX}{living.pid}-abc",
        temporary / "somebody-else",
    )
    for folder in (left, before_us, alive, other):
        folder.mkdir()
        (folder / "file").touch()
    with living:
        bench = Bench.of(Settings(home=temporary / "home"))
        bench.close()
        living.communicate()
    assert not left.exists() and not before_us.exists() and (alive / "file").exists() and (other / "file").exists()
    assert bench.worker.endswith(f":{os.getpid()}")


def test_a_folder_that_is_used_is_not_swept(temporary: Path) -> None:
    """By a worker that has our number in another container."""
    bench = Bench.of(Settings(home=temporary / "home", free_bytes=0))
    with scratch(bench) as folder:
        Bench.of(Settings(home=temporary / "home")).close()
        assert folder is not None and folder.is_dir()
    assert not folder.exists()
    bench.close()

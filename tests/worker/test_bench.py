from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from registry.settings import Settings
from worker.bench import SCRATCH_PREFIX, Bench


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_worker_left_is_swept(temporary: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    left, ours, other = (
        temporary / f"{SCRATCH_PREFIX}{dead.pid}-abc",
        temporary / f"{SCRATCH_PREFIX}{os.getpid()}-abc",
        temporary / "somebody-else",
    )
    for folder in (left, ours, other):
        folder.mkdir()
        (folder / "file").touch()
    bench = Bench.of(Settings(home=temporary / "home"))
    bench.close()
    assert not left.exists() and (ours / "file").exists() and (other / "file").exists()
    assert bench.worker.endswith(f":{os.getpid()}")

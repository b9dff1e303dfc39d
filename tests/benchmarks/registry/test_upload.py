from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.registry import sender
from benchmarks.registry.files import numbered, write_large
from benchmarks.serving.processes import free_port
from graftery.module.verification import verify

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def floor(tmp_path: Path) -> Iterator[int]:
    port, folder = free_port(), tmp_path / "floor"
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.registry.floor", str(port), str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.02)
    yield port
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def test_the_floor_keeps_what_was_sent(floor: int, tmp_path: Path) -> None:
    data = b"bench-00000000" + os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    plan = {"file": str(tmp_path / "file"), "numbers": [7, 8], "digests": {}, "refused": False, "status": 201}
    for path in ("/staged", "/kept"):
        found = sender.run(plan | {"path": path, "port": floor})
        assert len(found["seconds"]) == 2
    kept = {path.name: path.read_bytes() for path in (tmp_path / "floor").iterdir()}
    wanted = [numbered(data, number) for number in (7, 8)]
    assert kept == {hashlib.sha256(one).hexdigest(): one for one in wanted}
    with pytest.raises(ValueError, match="answered 201"):
        sender.run(plan | {"path": "/staged", "port": floor, "status": 422})


def test_another_number_is_another_good_file(tmp_path: Path) -> None:
    write_large(tmp_path / "file", 65_536)
    data = (tmp_path / "file").read_bytes()
    assert 65_536 <= len(data) < 100_000
    (tmp_path / "other").write_bytes(numbered(data, 3))
    assert verify(tmp_path / "other").parameters == verify(tmp_path / "file").parameters
    with pytest.raises(ValueError, match="no mark"):
        numbered(b"nothing", 3)

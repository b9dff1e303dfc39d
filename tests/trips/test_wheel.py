"""The wheel holds all that runs: installed in an empty environment, far from the checkout, it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("graftery", "registry", "serving", "worker", "app", "migrations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=240,
    )
    return next(out.glob("graftery-*.whl"))


@pytest.fixture(scope="module")
def empty_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment that holds the wheel and what it asks for, nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    subprocess.run(
        [
            *(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--constraint", ROOT / "constraints.txt", _torch_pin(), wheel),
        ],
        check=True,
        timeout=280,
    )
    return folder / "bin"


def _torch_pin() -> str:
    return next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))


def test_the_wheel_ships_every_source_file(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    shipped = set(zipfile.ZipFile(wheel).namelist())
    assert len(tracked) > 50
    assert [name for name in tracked if name not in shipped] == []


@pytest.fixture
def served(empty_environment: Path, tmp_path: Path) -> Iterator[Path]:
    """The home of `graftery serve`, run from the installed wheel and ended by Ctrl-C."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFTERY_", "PYTHON"))}
    home = tmp_path / "home"
    process = subprocess.Popen(
        [empty_environment / "graftery", "serve", "--home", home, "--port", "0"], cwd=tmp_path, env=environment
    )
    try:
        yield home
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def _address(home: Path, timeout_s: float = 90) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (home / "serve.json").is_file():
            return str(json.loads((home / "serve.json").read_text())["url"])
        time.sleep(0.2)
    raise TimeoutError("graftery serve did not come up")


@pytest.mark.slow
def test_the_installed_wheel_serves(served: Path) -> None:
    url = _address(served)
    with urlopen(f"{url}/health/ready", timeout=30) as reply:
        assert reply.status == 200
    with urlopen(f"{url}/v2/health/live", timeout=30) as reply:
        assert json.load(reply)["live"] is True

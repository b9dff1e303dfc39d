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
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path
from urllib.request import urlopen

import pytest
from packaging.requirements import Requirement

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
    """The `bin` folder of a new environment that holds the wheel and what it asks for, nothing else.

    What it asks for is linked from the environment of the tests, which has the pinned versions: torch alone takes half a
    minute to unpack.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, timeout=240)
    (site,) = folder.glob("lib/python*/site-packages")
    (metadata,) = site.glob("graftery-*.dist-info")
    for each in _asked_for(PathDistribution(metadata), extras=()):
        _link(each, site)
    subprocess.run([*pip, "check"], check=True, timeout=60)
    return folder / "bin"


def _asked_for(
    asking: Distribution, extras: Iterable[str], found: dict[tuple[str, str], Distribution] | None = None
) -> list[Distribution]:
    """What a distribution needs with these of its extras, and what that needs."""
    found = {} if found is None else found
    for wanted in map(Requirement, asking.requires or ()):
        with_extras = ("", *extras)
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": each}) for each in with_extras):
            continue
        key = (wanted.name.lower(), str(wanted.extras))
        if key not in found:
            found[key] = distribution(wanted.name)
            _asked_for(found[key], wanted.extras, found)
    return [*found.values()]


def _link(found: Distribution, site: Path) -> None:
    """Its files in another environment; commands, which lie outside of `site`, are left out."""
    for file in found.files or ():
        if ".." not in file.parts and not (site / file).is_symlink():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).symlink_to(Path(str(file.locate())).resolve())


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

"""`graftery export` of a real service and `graftery import` into a new one, which then answers the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import backup
from graftery.client.http import Client
from tests.support import files, layouts
from tests.support.service import Service, serving
from tests.support.world import images

NETWORKS = ("cat-in-animals", "cat-is-teacher", "animals-is-teacher")


def graftery(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRAFTERY_")}
    command = [sys.executable, "-m", "graftery.client.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with an adapter that was learned there."""
    with serving(tmp_path_factory.mktemp("source"), prechecks="0") as service:
        with service.client() as client:
            client.push_teacher("cat", files.teacher(seed=1), cut=files.CUT, description="of cats")
            client.push_teacher("animals", files.teacher(seed=2), cut=files.CUT)
            client.push_samples("few", files_of_samples())
            recipe = {"sources": ["noise"], "steps": 20}
            client.wait(client.transplant("cat", "animals-is", name="cat-in-animals", recipe=recipe, alias="stable"))
            client.alias("cat", "tried", 1)
        yield service


def files_of_samples() -> np.ndarray:
    return images(8)


def seen(client: Client) -> dict[str, Any]:
    """Versions, aliases with their history, networks and lineage, as they cross HTTP."""
    found: dict[str, Any] = {}
    for module in client.list():
        found[module.name] = module
        for alias in client.aliases(module.name):
            found[f"{module.name}@{alias.alias}"] = (alias, client.alias_history(module.name, alias.alias))
        for version in client.versions(module.name):
            found[version.ref] = version
            up = client.lineage(version.ref).model_dump()
            found[f"lineage of {version.ref}"] = [
                up["root"],
                *(sorted(up[part], key=str) for part in ("nodes", "edges")),
            ]
    return found


def answers(client: Client) -> list[bytes]:
    return [np.asarray(client.infer(name, images(5))).tobytes() for name in NETWORKS]


@pytest.mark.slow
def test_a_restored_registry_is_the_same(source: Service, tmp_path: Path) -> None:
    layout, home = tmp_path / "layout", tmp_path / "restored"
    exported = graftery("export", str(layout), "--home", str(source.home), "--json")  # while it serves
    assert exported.returncode == 0, exported.stderr
    imported = graftery("import", str(layout), "--home", str(home), "--json")
    assert imported.returncode == 0, imported.stderr
    assert json.loads(imported.stdout) == json.loads(exported.stdout)
    assert "export:" in exported.stderr and "import:" in imported.stderr  # how far it is
    adapters = [m for m, config in layouts.documents(layout) if config["name"] == "cat-in-animals-adapter"]
    assert len(adapters) >= 2 and all(each.get("subject") for each in adapters if "version" in each["artifactType"])
    with source.client() as client:
        before, given = seen(client), answers(client)
        probes = client.certificate("cat-in-animals").probes
    with serving(home, planes="registry,inference", prechecks="0") as restored, restored.client() as client:
        assert seen(client) == before
        assert answers(client) == given
        assert client.certificate("cat-in-animals").probes == probes
        assert client.pull("few", tmp_path).stat().st_size == before["few:1"].size_bytes


@pytest.mark.slow
def test_a_file_that_an_upload_would_not_pass_is_not_imported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The layout of `layouts.fill` has an adapter whose file is no module file."""
    from registry.db import upgrade
    from registry.settings import Settings

    settings = Settings(home=tmp_path / "source", free_bytes=0)
    upgrade(settings)
    layouts.fill(settings)
    layout, home = str(tmp_path / "layout"), str(tmp_path / "home")
    assert backup.main(["export", layout, "--home", str(settings.home)]) == 0
    assert backup.main(["import", layout, "--home", home]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error[") and "layout_invalid" not in error and ":1" in error
    assert backup.main(["import", layout, "--home", home, "--trusted"]) == 0
    assert "14 new versions of 11 names" in capfd.readouterr().out


@pytest.mark.parametrize("verb", ["export", "import"])
def test_what_is_not_there(verb: str, tmp_path: Path) -> None:
    done = graftery(verb, str(tmp_path / "nothing"), "--home", str(tmp_path / "home"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error[{'not_found' if verb == 'export' else 'layout_invalid'}]: ")
    assert len(done.stderr.splitlines()) == 1

"""Dockerfile and docker-compose.yml name what exists: targets, paths, settings and modules. No Docker engine is needed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
BUILT = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


def _is_setting(variable: str) -> bool:
    return variable.removeprefix("GRAFTERY_").lower() in Settings.model_fields


def test_what_is_copied_exists() -> None:
    sources = [word for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]
    assert len(sources) >= 10
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_build_context_lets_through_what_is_copied() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    assert copied <= allowed


def test_every_package_of_the_wheel_is_copied() -> None:
    packages = re.search(r"^packages = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    for package in re.findall(r'"(\w+)"', packages[1]):
        assert f"COPY {package} {package}" in DOCKERFILE


@pytest.mark.parametrize("name", sorted(BUILT))
def test_services_build_targets_that_exist(name: str) -> None:
    assert f" AS {BUILT[name]['build']['target']}\n" in DOCKERFILE


@pytest.mark.parametrize("name", sorted(BUILT))
def test_services_set_settings_that_exist(name: str) -> None:
    variables = BUILT[name]["environment"]
    assert "GRAFTERY_DATABASE_URL" in variables
    assert [variable for variable in variables if not _is_setting(variable)] == []


def test_the_images_set_settings_that_exist() -> None:
    variables = set(re.findall(r"\b(GRAFTERY_[A-Z_]+)=", DOCKERFILE))
    assert {"GRAFTERY_HOME", "GRAFTERY_PLANES"} <= variables
    assert [variable for variable in sorted(variables) if not _is_setting(variable)] == []


def test_every_module_that_a_command_runs_exists() -> None:
    commands = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    commands += [str(service["command"]).replace("'", '"') for service in BUILT.values() if "command" in service]
    modules = [module for command in commands for module in re.findall(r'"-m", "([\w.]+)"', command)]
    assert {"worker", "migrations"} <= set(modules)
    for module in modules:
        assert importlib.util.find_spec(f"{module}.__main__") is not None


def test_the_images_do_not_run_as_root() -> None:
    base = DOCKERFILE.split(" AS api")[0]
    assert re.search(r"^USER graftery$", base, re.MULTILINE)


def test_every_service_that_is_waited_for_exists() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])

"""Dockerfile and compose files name what exists: targets, paths, settings and modules. No Docker engine is needed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from registry.settings import Settings
from tests.support import compose

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
SERVICES = compose.services()
BUILT = {name: service for name, service in SERVICES.items() if "build" in service}
PARTS = ("api", "inference", "worker")
# What obstore reads (registry/buckets.py).
BUCKET = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}


def _is_setting(variable: str) -> bool:
    return variable.removeprefix("GRAFTERY_").lower() in Settings.model_fields


def _copied() -> list[str]:
    """What is copied from the checkout, not from another stage."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [word for line in lines for word in line.split()[:-1]]


@pytest.mark.parametrize("name", FILES)
def test_compose_files_keep_to_the_specification(name: str) -> None:
    """Against the schema of the Compose specification, as the package check-jsonschema carries it."""
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    document = yaml.safe_load((ROOT / name).read_text())
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "services": {"api": {"imagee": "a"}}}, schema)


def test_what_is_copied_exists() -> None:
    assert len(_copied()) >= 10
    assert [source for source in _copied() if not (ROOT / source).exists()] == []


def test_the_build_context_lets_through_what_is_copied() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(_copied()) <= allowed


def test_every_package_of_the_wheel_is_copied() -> None:
    packages = re.search(r"^packages = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    for package in re.findall(r'"(\w+)"', packages[1]):
        assert f"COPY {package} {package}" in DOCKERFILE


def test_stages_that_are_named_exist() -> None:
    stages = compose.stages()
    named = re.findall(r"--from=(\w+)|from=(\w+),", DOCKERFILE)
    assert {a or b for a, b in named} <= stages.keys()
    assert set(PARTS) <= stages.keys()


def test_the_images_run_as_nobody_in_particular() -> None:
    for target in PARTS:
        base = compose.stages()[target][0].split()[1]
        assert "USER 10001" in compose.stages()[base], target


def test_the_images_carry_no_tools_to_build_with() -> None:
    assert not re.search(r"apt-get|build-essential", DOCKERFILE)
    assert compose.stages()["base"][0].startswith("FROM python:3.11-slim"), "what was needed to build stays behind"


@pytest.mark.parametrize("arguments", [{}, {"TORCH_INDEX": "https://index.invalid/cpu", "TORCH_BUILD": "+cpu"}])
def test_the_build_of_torch_is_an_argument(arguments: dict[str, str], tmp_path: Path) -> None:
    """The line of the Dockerfile, run by a shell whose pip says what it was asked for."""
    line = next(line for line in compose.stages()["environment"] if "^torch==" in line).removeprefix("RUN ")
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **arguments}
    said = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
    assert re.search(rf"torch==[\d.]+{re.escape(arguments.get('TORCH_BUILD', ''))}$", said.strip())
    assert ("--index-url" in said) == bool(arguments)


def test_what_the_environment_needs_is_read_from_the_project(tmp_path: Path) -> None:
    line = next(line for line in compose.stages()["environment"] if "needed.txt" in line)
    script = re.search(r'python -c "(.*?)" >', line)
    assert script is not None
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = [sys.executable, "-c", script[1]]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    assert {"fastapi", "torch", "celery[redis]"} <= {name.partition(">=")[0] for name in said}


@pytest.mark.parametrize("name", sorted(BUILT))
def test_services_build_targets_that_exist(name: str) -> None:
    assert BUILT[name]["build"]["target"] in compose.stages()


@pytest.mark.parametrize("name", sorted(BUILT))
def test_services_set_settings_that_exist(name: str) -> None:
    variables = BUILT[name]["environment"]
    assert {"GRAFTERY_DATABASE_URL", "GRAFTERY_STORE_URL"} | BUCKET <= variables.keys()
    assert [variable for variable in variables if variable not in BUCKET and not _is_setting(variable)] == []


@pytest.mark.parametrize("name", PARTS)
def test_settings_are_read_as_they_are_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in compose.environment(SERVICES[name]).items():
        if variable.startswith("GRAFTERY_"):
            monkeypatch.setenv(variable, value)
    settings = Settings()
    assert settings.drain_s + settings.finish_s < int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert name == "worker" or settings.planes == {"registry" if name == "api" else "inference"}


def test_the_proxy_knows_every_replica() -> None:
    for service, variable in (("api", "API_UPSTREAMS"), ("inference", "INFERENCE_UPSTREAMS")):
        count = int(SERVICES[service]["deploy"]["replicas"])
        names = [f"graftery-{service}-{i}:8080" for i in range(1, count + 1)]
        assert SERVICES["proxy"]["environment"][variable].split() == names
    assert yaml.safe_load((ROOT / "docker-compose.yml").read_text())["name"] == "graftery"


def test_what_is_mounted_exists() -> None:
    mounted = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    paths = [volume.partition(":")[0] for volume in mounted if volume.startswith("./")]
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_each_gpu_has_a_worker_of_its_own() -> None:
    found = compose.services("docker-compose.gpu.yml")
    workers = {name: service for name, service in found.items() if name.startswith("worker-gpu")}
    devices = [w["deploy"]["resources"]["reservations"]["devices"][0] for w in workers.values()]
    assert [device["device_ids"] for device in devices] == [["0"], ["1"]]
    assert found["worker"]["deploy"]["replicas"] == 0
    assert all(w["extends"] == {"file": "docker-compose.yml", "service": "worker"} for w in workers.values())


def test_the_proxy_s_configuration_is_one(tmp_path: Path) -> None:
    caddy = shutil.which("caddy") or str(Path(sys.executable).with_name("caddy"))
    env = {**os.environ, **compose.environment(SERVICES["proxy"]), "HOME": str(tmp_path)}
    config = ROOT / "deploy/caddy/Caddyfile"
    command = [caddy, "adapt", "--config", str(config), "--adapter", "caddyfile", "--validate"]
    said = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    dials = re.findall(r'"dial":"([^"]+)"', said)
    assert sorted(set(dials)) == sorted(
        f"graftery-{service}-{i}:{port}"
        for service, port in (("api", 8080), ("inference", 8080), ("inference", 8081))
        for i in (1, 2)
    )


def test_the_images_set_settings_that_exist() -> None:
    variables = set(re.findall(r"\b(GRAFTERY_[A-Z_]+)=", DOCKERFILE))
    assert {"GRAFTERY_HOME", "GRAFTERY_PLANES"} <= variables
    assert [variable for variable in sorted(variables) if not _is_setting(variable)] == []


def _can_be_run(module: str) -> bool:
    """As `python -m` would: a module, or a package with a __main__."""
    found = importlib.util.find_spec(module)
    return found is not None and (
        found.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__") is not None
    )


def test_every_module_that_a_command_runs_exists() -> None:
    modules = {command[command.index("-m") + 1] for command in map(compose.command, BUILT.values())}
    assert modules == {"app.api", "worker", "migrations"}
    assert [module for module in sorted(modules) if not _can_be_run(module)] == []
    assert not _can_be_run("app")


def test_every_service_that_is_waited_for_exists() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)

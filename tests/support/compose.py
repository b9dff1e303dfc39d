"""docker-compose.yml and the Dockerfile as a program reads them: what each service runs, and in which environment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def services(name: str = "docker-compose.yml") -> dict[str, dict[str, Any]]:
    """The services, with the defaults of their variables in place."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(_filled((ROOT / name).read_text()))["services"]
    return found


def _filled(text: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def stages() -> dict[str, list[str]]:
    """The Dockerfile's stages by name: their instructions, the first names what they are built on."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("FROM "):
            lines = found.setdefault(line.split()[-1], [])
        if line.strip() and not line.startswith("#") and (found or line.startswith("FROM ")):
            lines.append(line.strip())
    return found


def image_environment(target: str) -> dict[str, str]:
    """What ENV sets in a target and in the stages that it is built on; a value may name an earlier one."""
    lines = stages().get(target)
    if lines is None:
        return {}
    found = image_environment(lines[0].split()[1])
    for line in lines:
        if line.startswith("ENV "):
            found |= dict(word.split("=", 1) for word in line.split()[1:])
    return found


def command(service: dict[str, Any]) -> list[str]:
    """What a service of ours runs: its own command, else that of its image."""
    if "command" in service:
        return list(service["command"])
    lines = stages()[service["build"]["target"]]
    return list(json.loads(next(line for line in lines if line.startswith("CMD ")).removeprefix("CMD ")))


def environment(service: dict[str, Any]) -> dict[str, str]:
    """What a service's process finds in its environment, of its image and of the compose file."""
    image = image_environment(service["build"]["target"]) if "build" in service else {}
    return {**image, **{name: str(value) for name, value in service.get("environment", {}).items()}}

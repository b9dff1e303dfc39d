"""The README's examples run as they stand, against a real service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import Service

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
DEFAULT_URL = "http://127.0.0.1:8080"


def block(language: str) -> str:
    """The only fenced block of a language."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return str(text)


def run(command: list[str], service: Service) -> list[str]:
    done = subprocess.run(
        command, env={**os.environ, "GRAFTERY_URL": service.url}, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def python_says(service: Service) -> list[str]:
    return run([sys.executable, "-c", block("python")], service)


def test_the_python_example(python_says: list[str]) -> None:
    assert any(line.startswith("cat-in-animals:1 {") for line in python_says)
    assert len(re.findall(r"-?\d+\.\d+", "".join(python_says[-4:]))) == 4


@pytest.mark.usefixtures("python_says")
def test_the_curl_example(service: Service) -> None:
    version, rest = run_curl(service)
    assert version["ref"] == "cat-in-animals:1"
    assert '"root":"cat-in-animals:1"' in rest
    assert '"datatype":"FP32"' in rest.replace(" ", "")
    assert '"state":"succeeded"' in rest.replace(" ", "")


def run_curl(service: Service) -> tuple[dict[str, object], str]:
    script = block("bash").replace(DEFAULT_URL, service.url)
    assert DEFAULT_URL not in script
    lines = run(["bash", "-euo", "pipefail", "-c", script], service)
    decoder = json.JSONDecoder()
    text = "\n".join(lines)
    version, end = decoder.raw_decode(text)
    return version, text[end:]


def test_every_verb_that_the_readme_uses_exists() -> None:
    from graftery.client.cli import GROUPS

    verbs = {name for group in GROUPS.values() for name in group}
    used = set(re.findall(r"^\$ graftery (\w+)", README, re.MULTILINE))
    assert len(used) >= 4
    assert used - verbs == set()

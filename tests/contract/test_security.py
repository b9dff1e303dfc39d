"""docs/security.md: each line of defence names the tests that hold it, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from registry.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/security.md").read_text()
LINES = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| Threat ")]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def _tests(path: str) -> frozenset[str]:
    file = ROOT / path
    tree = ast.parse(file.read_text()) if file.exists() else ast.Module([], [])
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_there_are_lines() -> None:
    assert len(LINES) > 30


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[1].strip()[:60])
def test_every_line_is_held_by_tests_that_exist(line: str) -> None:
    threat, defence, held = (cell.strip() for cell in line.strip("|").split("|"))
    assert threat and defence
    named = NAMED.findall(held)
    assert named, "no test holds it"
    assert NAMED.sub("", held).strip() == "", "what stands there is no test"
    assert [f"{path}::{name}" for path, name in named if name not in _tests(path)] == []
    assert all(name.startswith("test_") for _, name in named)


def test_the_settings_it_names_exist() -> None:
    variables = set(re.findall(r"GRAFTERY_([A-Z_]+)", TEXT))
    assert {"ACCESS", "KEYS_S", "RATES"} <= variables
    assert [name for name in sorted(variables) if name.lower() not in Settings.model_fields] == []

"""The house's measurable rules: short files and functions, rooms that exist, documents whose links lead somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("graftery", "registry", "serving", "worker", "app")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
# The training loop is read as one piece (docs/architecture.md).
LONGER_FUNCTIONS = {("graftery/transplant/training.py", "train"): 80}


def _sources() -> list[Path]:
    return sorted(path for room in SOURCE for path in (ROOT / room).rglob("*.py"))


def _documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its decorators and docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES, f"{path} is over {MAX_FILE_LINES} lines: split the room"
    name = str(path.relative_to(ROOT))
    for function in _functions(ast.parse(text)):
        limit = LONGER_FUNCTIONS.get((name, function.name), MAX_FUNCTION_LINES)
        assert _body_lines(function) <= limit, f"{name}:{function.lineno} {function.name} is over {limit} lines"


def test_median_function_is_short() -> None:
    lengths = sorted(_body_lines(f) for path in _sources() for f in _functions(ast.parse(path.read_text())))
    assert lengths[len(lengths) // 2] <= 12
    assert lengths[int(len(lengths) * 0.9)] <= 35


def _targets(document: Path) -> Iterator[str]:
    prose = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:|#", target):
            yield target.split("#")[0]


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    missing = [target for target in _targets(document) if not (document.parent / target).exists()]
    assert not missing


def test_architecture_names_rooms_that_exist() -> None:
    """Every `path.py` or `path/` that docs/architecture.md draws in its tree exists."""
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(
        re.findall(r"`((?:graftery|registry|serving|worker|app|migrations|examples|benchmarks)/[\w/.]*)`", text)
    )
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_architecture_is_one_page() -> None:
    assert (ROOT / "docs/architecture.md").read_text().count("\n") <= 130

"""One table of error codes: docs/errors.md lists what graftery/spec/problems.py has, and the code uses no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graftery import errors
from graftery.errors import GrafteryError
from graftery.spec.problems import PROBLEMS, status_of

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("graftery", "registry", "serving", "worker", "app")
ROW = re.compile(
    r"^\| `(?P<code>\w+)` \| (?P<status>\d{3}) \| (?P<meaning>[^|]+) \| (?P<remedy>[^|]+) \|$", re.MULTILINE
)


def _rows() -> dict[str, re.Match[str]]:
    rows = list(ROW.finditer((ROOT / "docs/errors.md").read_text()))
    found = {row["code"]: row for row in rows}
    assert len(found) == len(rows), "a code is listed twice"
    return found


def test_the_document_lists_every_code_and_no_other() -> None:
    assert sorted(_rows()) == sorted(PROBLEMS)


def test_the_document_has_the_statuses_and_meanings_of_the_table() -> None:
    for code, row in _rows().items():
        assert int(row["status"]) == PROBLEMS[code].status, code
        assert row["meaning"] == PROBLEMS[code].title, code


def test_every_code_says_what_to_do() -> None:
    for code, row in _rows().items():
        assert len(row["remedy"].split()) >= 3, code


def _classes(cls: type[GrafteryError] = GrafteryError) -> Iterator[type[GrafteryError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _classes(child)


def test_every_errors_own_code_is_in_the_table() -> None:
    assert [cls for cls in _classes() if cls.__module__ == errors.__name__ and cls.code not in PROBLEMS] == []


def _codes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The codes that a file gives to errors as `code="..."`."""
    keywords = (keyword for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords)
    for keyword in keywords:
        value = keyword.value
        if keyword.arg == "code" and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.lineno, value.value


@pytest.mark.parametrize("room", SOURCE)
def test_the_source_uses_no_code_that_is_not_in_the_table(room: str) -> None:
    unknown = [
        f"{path.relative_to(ROOT)}:{line} {code}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, code in _codes(ast.parse(path.read_text()))
        if code not in PROBLEMS
    ]
    assert unknown == []


def test_an_unknown_code_is_a_500() -> None:
    assert status_of("code_of_tomorrow") == 500

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftery.errors import GrafteryError
from registry.pages import clamp, cut, moment, read_cursor


def test_limits() -> None:
    assert [clamp(limit) for limit in (-1, 0, 1, 200, 201, 10**9)] == [1, 1, 1, 200, 200, 200]


@given(st.text(), st.integers(-(2**62), 2**62))
def test_a_cursor_names_the_last_row(name: str, number: int) -> None:
    page, cursor = cut([(name, number), ("next", 1)], 1, lambda row: row)
    assert page == [(name, number)]
    assert cursor is not None and "=" not in cursor
    assert read_cursor(cursor, str, int) == [name, number]


def test_the_last_page_has_no_cursor() -> None:
    assert cut([1, 2], 2, lambda row: (row,)) == ([1, 2], None)
    assert read_cursor(None, int) is None


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "a",
        "ä",
        "%%%",
        "!" * 50,
        *map(_cursor, ["{}", "1", '["a"]', "[1, 2]", "[true]", "[1.5]", "[99999999999999999999]"]),
    ],
)
def test_other_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(GrafteryError) as error:
        read_cursor(cursor, int)
    assert error.value.code == "request_invalid"


@given(st.text())
def test_any_text_is_refused_or_read(text: str) -> None:
    try:
        read_cursor(text, int)
    except GrafteryError as error:
        assert error.code == "request_invalid"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00:00+23:00"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(GrafteryError):
        moment(text)

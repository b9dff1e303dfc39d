from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.files.ranges import Span, matches, span
from graftery.errors import GrafteryError

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=2-4", Span(2, 5)),
        ("bytes=2-", Span(2, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-30", Span(0, 10)),
        ("bytes=2-400", Span(2, 10)),
        ("bytes=4-2", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
    ],
)
def test_single_ranges(header: str | None, expected: Span | None) -> None:
    assert span(header, None, ETAG, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=999999999999999999-"])
def test_outside_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(GrafteryError) as refused:
        span(header, None, ETAG, 10)
    assert refused.value.code == "range_invalid"
    assert refused.value.details["headers"] == {"Content-Range": "bytes */10"}


def test_if_range_names_other_bytes() -> None:
    assert span("bytes=0-1", '"other"', ETAG, 10) is None
    assert span("bytes=0-1", ETAG, ETAG, 10) == Span(0, 2)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_a_span_lies_in_the_file(first: int, last: int, size: int) -> None:
    try:
        found = span(f"bytes={first}-{last}", None, ETAG, size)
    except GrafteryError:
        assert first >= size
        return
    if found is not None:
        assert bytes(range(size))[found.start : found.end] == bytes(range(size))[first : last + 1]


@pytest.mark.parametrize(
    ("header", "same"),
    [
        (None, False),
        ("*", True),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x"', False),
        ("abc", False),
    ],
)
def test_etags(header: str | None, same: bool) -> None:
    assert matches(header, ETAG) is same

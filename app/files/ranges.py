"""Conditional and partial reads of immutable bytes (RFC 9110): ETag, If-None-Match, If-Range, Range."""

from __future__ import annotations

import re
from typing import NamedTuple

from graftery.errors import GrafteryError

_RANGE = re.compile(r"bytes=\s*(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))\s*")


class Span(NamedTuple):
    """The bytes from `start` to before `end`."""

    start: int
    end: int


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match or If-Match header names this ETag. Weak ones count: equal bytes are equal."""
    if header is None:
        return False
    named = [each.strip().removeprefix("W/") for each in header.split(",")]
    return "*" in named or etag in named


def span(header: str | None, if_range: str | None, etag: str, size_bytes: int) -> Span | None:
    """The part that a Range header asks for; None: all of it.

    A unit or form that we do not know, several ranges, or an If-Range that names other bytes mean all of it.

    Raises:
        GrafteryError: `range_invalid`: the range begins after the end.
    """
    if header is None or (if_range is not None and if_range != etag):
        return None
    match = _RANGE.fullmatch(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size_bytes - int(suffix)), size_bytes
    else:
        start, end = int(first), min(size_bytes, int(last) + 1 if last else size_bytes)
        if last and int(last) < start:
            return None
    if start >= size_bytes or start >= end:
        raise GrafteryError(
            f"the range {header} is outside the file of {size_bytes} bytes",
            code="range_invalid",
            headers={"Content-Range": f"bytes */{size_bytes}"},
        )
    return Span(start, end)

"""Keyset pages: an opaque cursor that names the last row seen, so that rows made meanwhile shift nothing."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from graftery.errors import GrafteryError

MAX_LIMIT = 200
_Row = TypeVar("_Row")


def clamp(limit: int) -> int:
    """A page has 1 to 200 rows."""
    return max(1, min(limit, MAX_LIMIT))


def read_cursor(cursor: str | None, *types: type) -> list[Any] | None:
    """The keys in a cursor; None for the first page.

    Raises:
        GrafteryError: `request_invalid`, for a cursor that this service did not make.
    """
    if cursor is None:
        return None
    try:
        keys = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=="))
    except (binascii.Error, ValueError):
        keys = None
    if not isinstance(keys, list) or [type(key) for key in keys] != list(types) or _too_large(keys):
        raise _not_ours()
    return keys


def moment(text: str) -> datetime:
    """A time in a cursor.

    Raises:
        GrafteryError: `request_invalid`.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _not_ours() from None


def _not_ours() -> GrafteryError:
    return GrafteryError("The cursor is not one that a page gave", code="request_invalid")


def _too_large(keys: list[Any]) -> bool:
    return any(isinstance(key, int) and abs(key) >= 2**63 for key in keys)


def cut(rows: Sequence[_Row], limit: int, keys: Callable[[_Row], Sequence[Any]]) -> tuple[list[_Row], str | None]:
    """Cut rows that were asked for with `limit + 1` to one page, and make the cursor of the next."""
    page = list(rows[:limit])
    if len(rows) <= limit:
        return page, None
    text = json.dumps(list(keys(page[-1])), separators=(",", ":"))
    return page, base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

"""What the client's verbs share: the transport, addresses of things, pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from graftery.client.answers import error_from, parse
from graftery.client.transport import Transport
from graftery.spec.names import check_name, parse_reference
from graftery.spec.wire import Page
from graftery.spec.wording import details_of, wrong_fields

PAGE = 200

_Item = TypeVar("_Item", bound=BaseModel)


class Verbs:
    """Base of the groups of verbs that `graftery.client.http.Client` is made of."""

    _transport: Transport

    def _pages(self, model: type[_Item], path: str, *, limit: int | None = None, **filters: Any) -> Iterator[_Item]:
        """The items of all pages, one request a page and no page before it is needed; at most `limit` items."""
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            response = self._transport.get(path, cursor=cursor, limit=size, **filters)
            page = parse(Page[model], response)  # type: ignore[valid-type]
            yield from page.items
            left = None if left is None else left - len(page.items)
            if (cursor := page.next) is None:
                return


def request_of(model: type[_Item], fields: Mapping[str, Any], *, code: str = "request_invalid") -> _Item:
    """A request of the vocabulary, checked before it is sent.

    Raises:
        GrafteryError: with the code and the first field that is not allowed, what is, and the names like it.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        wrong = wrong_fields(error.errors(), model)
        raise error_from(code, f"{wrong[0].at}: {wrong[0].problem}", **details_of(wrong)) from None


def module_path(name: str) -> str:
    return f"/v1/modules/{quote(check_name(name), safe='')}"


def version_path(ref: str) -> str:
    return f"/v1/versions/{quote(str(parse_reference(ref)), safe='')}"

"""Who asks: what the request's key allows. It goes with the request, through threads too, to where something is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from graftery.errors import AccessRefused
from graftery.spec.access import SCOPES, Scope, is_within


@dataclass(frozen=True)
class Caller:
    """What a caller may do.

    Args:
        name: as the audit log has it; None: nobody was asked who they are.
        key_id: of the key; None where there was none.
        scopes: with all that they include.
        namespaces: where names may be changed; None: everywhere.
    """

    name: str | None
    key_id: str | None = None
    scopes: frozenset[Scope] = frozenset(SCOPES)
    namespaces: tuple[str, ...] | None = None


ANYBODY = Caller(None)
_caller: ContextVar[Caller] = ContextVar("graftery_caller", default=ANYBODY)
_request_id: ContextVar[str | None] = ContextVar("graftery_request_id", default=None)


def caller() -> Caller:
    """Who asks for what is being done now."""
    return _caller.get()


def request_id() -> str | None:
    """In which request."""
    return _request_id.get()


@contextmanager
def acting(who: Caller, request: str | None = None) -> Iterator[None]:
    """What is done inside is done for `who`."""
    before = _caller.set(who), _request_id.set(request)
    try:
        yield
    finally:
        _caller.reset(before[0])
        _request_id.reset(before[1])


def check_scope(who: Caller, scopes: frozenset[Scope], what: str) -> None:
    """Refuse a caller that has none of the scopes.

    Raises:
        AccessRefused: `forbidden`.
    """
    if not scopes & who.scopes:
        needed = " or ".join(scope for scope in SCOPES if scope in scopes)
        raise AccessRefused(f"{what} needs the scope {needed}", code="forbidden", scopes=sorted(who.scopes))


def check_name(name: str | None) -> None:
    """Refuse a change of a name that is outside the caller's namespaces; None: of what has no name.

    Raises:
        AccessRefused: `forbidden`.
    """
    namespaces = caller().namespaces
    if namespaces is None or (name is not None and is_within(name, namespaces)):
        return
    places = ", ".join(f"{namespace}.NAME" for namespace in namespaces)
    raise AccessRefused(
        f"this key does not change {name or 'what has no name'}", code="forbidden", hint=f"it changes {places}"
    )

"""Keys for tests, made on the database as `graftery keys --local` makes them."""

from __future__ import annotations

from graftery.spec.access import KeyRequest, Scope
from registry.access import keys
from registry.db import Database


def make_key(database: Database, name: str, *scopes: Scope, namespaces: list[str] | None = None) -> str:
    """The secret of a new key."""
    with database.transaction() as session:
        return keys.create(session, name, KeyRequest(scopes=[*scopes], namespaces=namespaces)).secret


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}

"""Short ways to fill a registry in tests."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy.orm import Session

from graftery.spec.manifest import Kind
from registry import catalogue
from registry.models import Version
from registry.store import Blob


def blob_of(text: str) -> Blob:
    """The blob of a text's bytes, without storing them."""
    data = text.encode()
    return Blob(hashlib.sha256(data).hexdigest(), len(data))


def put(session: Session, name: str, text: str = "one", kind: Kind = "category", **more: Any) -> Version:
    """Publish a text as a module; its kind is `category` if not given."""
    return catalogue.publish(session, name=name, kind=kind, blob=blob_of(text), **more)[0]


def put_network(
    session: Session,
    name: str,
    category: Version,
    task: Version,
    adapter: Version | None = None,
    clones: tuple[Version, ...] = (),
) -> Version:
    """Publish a network of these parts."""
    found = catalogue.NetworkVersions(category, adapter, task, clones)
    document = catalogue.compose_document(found.parts).decode()
    return put(session, name, document, "network", parts=found.parts, parents=found.parents)

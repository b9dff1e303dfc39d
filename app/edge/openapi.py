"""The OpenAPI document: what FastAPI derives from the routes, and what it cannot know."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.edge import links
from app.edge.access import needed
from graftery import __version__
from graftery.spec.wire import JobEvent, ProblemDocument

TITLE = "Graftery"
DESCRIPTION = """A registry and inference service for neural modules.

Modules are cut from trained nets, uploaded as safe files, versioned, and joined by small learned adapters.
Errors are problem documents (RFC 9457) with a stable `code`. References are `name`, `name:3`, `name@alias` or
`name@sha256:...`. Inference under `/v2` speaks the Open Inference Protocol.
"""
TAGS = [
    {"name": "modules", "description": "Names: what stands behind them, uploads, versions"},
    {"name": "versions", "description": "Immutable versions: files, yank, delete, lineage"},
    {"name": "aliases", "description": "Movable names of versions, with their history and a rollback"},
    {"name": "teachers", "description": "Whole nets, cut into a category module and task modules at the upload"},
    {"name": "samples", "description": "Sample sets, labelled or not"},
    {"name": "uploads", "description": "Uploads in pieces that outlive a connection, and bytes that need not be sent"},
    {"name": "networks", "description": "Composed networks and the transplants that make them"},
    {
        "name": "generic networks",
        "description": "Categories by tasks: each cell a network, grown one teacher at a time",
    },
    {"name": "jobs", "description": "Long work: state, live events, cancel, retry"},
    {"name": "inference", "description": "Composed networks, asked by the Open Inference Protocol (KServe V2)"},
    {"name": "access", "description": "Keys and the audit log: for admins, where keys are asked for"},
    {"name": "health", "description": "Whether the service is up, and its figures"},
]
BINARY = "application/octet-stream"


def binary_body(what: str, media_type: str = BINARY) -> dict[str, Any]:
    """`openapi_extra` for a route that takes a file's bytes as they are."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "description": what, "content": content}}


def operation_id(route: APIRoute) -> str:
    """The endpoint's name: `list_modules`, not `list_modules_v1_modules_get`."""
    return route.name


def install(app: FastAPI) -> None:
    """Make `app.openapi` give the whole document; it is made once."""

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=TITLE, version=__version__, description=DESCRIPTION, routes=app.routes, tags=TAGS, license_info=_LICENCE
    )
    for model in (ProblemDocument, JobEvent):  # named by routes that do not return them as they are
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found["components"]["schemas"][model.__name__] = schema
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    _say_what_is_needed(found, always=app.state.service.guard.asks)
    links.add(found)
    return found


def _say_what_is_needed(document: dict[str, Any], *, always: bool) -> None:
    """The scopes of keys, one of which each operation needs; `{}` beside them: only where keys are asked for."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            rights = needed(method.upper(), path)
            keys: list[dict[str, list[str]]] = [{"key": [right]} for right in sorted(rights or ())]
            operation["security"] = keys if always or not keys else [*keys, {}]


_LICENCE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}

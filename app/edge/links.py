"""OpenAPI links: which operations may follow an answer, and what of the answer they take. Found from the routes.

What an answer names is said once for each model, in `_NAMED`; every operation about such a thing is then linked to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
Values = dict[str, str | int]
"""Parameter -> JSON pointer into the model, or a value as it is."""


@dataclass(frozen=True)
class _About:
    """Operations at `path` and below are about what a model's answer names, and take all of `values`."""

    path: str
    values: Values
    by: str | None = field(default=None, kw_only=True)
    """Only in answers of this operation."""


_JOB = (_About("/v1/jobs/{id}", {"id": "/id"}),)
_KEY = (_About("/v1/keys/{name}", {"name": "/name"}),)
_NAMED: dict[str, tuple[_About, ...]] = {
    "JobOut": _JOB,
    "TransplantOut": _JOB,
    "KeyOut": _KEY,
    "KeyMade": _KEY,
    "ModuleOut": (_About("/v1/modules/{name}", {"name": "/name"}),),
    "VersionOut": (
        _About("/v1/versions/{ref}", {"ref": "/ref"}),
        _About("/v1/modules/{name}", {"name": "/name"}),
        _About("/v1/blobs/{digest}", {"digest": "/digest", "name": "/name"}),
        _About("/v1/modules/{name}/aliases/{alias}", {"name": "/name", "alias": "default"}),
        _About("/v1/networks/{ref}", {"ref": "/ref"}, by="attach_clones"),
        _About("/v2/models/{name}", {"name": "/name"}, by="create_network"),
        _About("/v2/models/{name}/versions/{version}", {"name": "/name", "version": "/version"}, by="create_network"),
    ),
    "GenericOut": (_About("/v1/generic/{name}", {"name": "/name"}),),
    "AliasOut": (_About("/v1/modules/{name}/aliases/{alias}", {"name": "/name", "alias": "/alias"}),),
    "UploadOut": (
        _About("/v1/uploads/{id}", {"id": "/id"}),
        _About("/v1/uploads/{id}", {"id": "/id", "upload-offset": "/offset"}),
        _About("/v1/uploads/{id}/parts/{number}", {"id": "/id", "number": 0}),
        _About("/v1/modules/{name}", {"name": "/name", "upload": "/id"}),
        _About("/v1/samples/{name}", {"name": "/name", "upload": "/id"}),
        _About("/v1/teachers/{name}", {"name": "/name", "upload": "/id"}),
    ),
}
_REF = "#/components/schemas/"
_IN_PATH = re.compile(r"\{(\w+)\}")


def add(document: Document) -> None:
    """Write the links of every answer that is a success into the document."""
    operations = [
        (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if "operationId" in operation
    ]
    for _, operation in operations:
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                links = dict(_links(document, operation["operationId"], answer, operations))
                answer.update({"links": links} if links else {})


def _links(
    document: Document, source: str, answer: Document, operations: list[tuple[str, Document]]
) -> Iterator[tuple[str, Document]]:
    for schema in (content.get("schema", {}) for content in answer.get("content", {}).values()):
        for model, pointer in _models(document, schema, ""):
            for about in _NAMED[model]:
                for path, target in operations:
                    name = target["operationId"]
                    if about.by in (None, source) and name != source and _takes(path, target, about):
                        yield f"{name}{_of(pointer)}", {"operationId": name, "parameters": _values(about, pointer)}


def _takes(path: str, operation: Document, about: _About) -> bool:
    """Whether an operation is about it: nothing in its path is left open, and all that is known has a place."""
    parameters = {each["name"] for each in operation.get("parameters", [])}
    below = path == about.path or path.startswith(about.path + "/")
    return below and set(_IN_PATH.findall(path)) <= about.values.keys() <= parameters


def _values(about: _About, pointer: str) -> Values:
    return {
        name: f"$response.body#{pointer}{value}" if str(value).startswith("/") else value
        for name, value in about.values.items()
    }


def _of(pointer: str) -> str:
    """`/teacher` -> `_of_teacher`, and the first of a page: `_of_items`."""
    words = [word for word in pointer.split("/") if word and not word.isdigit()]
    return "_of_" + "_".join(words) if words else ""


def _models(document: Document, schema: Document, pointer: str) -> Iterator[tuple[str, str]]:
    """Models in a schema that name something, each with where it stands; of a list, the first."""
    for each in schema.get("anyOf", ()):
        yield from _models(document, each, pointer)
    if schema.get("type") == "array" and "items" in schema:
        yield from _models(document, schema["items"], f"{pointer}/0")
    name = schema.get("$ref", "").removeprefix(_REF)
    if name in _NAMED:
        yield name, pointer
    elif name:
        for key, value in document["components"]["schemas"][name].get("properties", {}).items():
            yield from _models(document, value, f"{pointer}/{key}")

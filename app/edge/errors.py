"""Errors as problem documents (RFC 9457). The statuses come from `graftery.spec.problems`, and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from graftery.errors import GrafteryError
from graftery.spec.problems import PROBLEMS
from graftery.spec.wire import ProblemDocument
from graftery.spec.wording import Wrong, details_of, wrong_fields

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://graftery.dev/errors#"
RETRY_AFTER_S = 2
_RECIPE = ("body", "recipe")

# What the framework raises by itself, as our codes.
_CODE_OF_STATUS = {
    400: "request_invalid",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    416: "range_invalid",
    422: "request_invalid",
    503: "unavailable",
}


def problem_document(
    code: str, detail: str, *, hint: str | None = None, request_id: str | None = None, **details: Any
) -> ProblemDocument:
    """The document for a code; a code that is not in the table is shown as `internal`."""
    known = code if code in PROBLEMS else "internal"
    status, title = PROBLEMS[known]
    return ProblemDocument(
        type=TYPE_BASE + known,
        title=title,
        status=status,
        detail=detail,
        code=known,
        hint=hint,
        request_id=request_id,
        **details,
    )


def problem(
    request: Request,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
    **details: Any,
) -> Response:
    """The problem document as a response, with the headers that its status asks for."""
    request_id = getattr(request.state, "request_id", None)
    document = problem_document(code, detail, hint=hint, request_id=request_id, **details)
    answer = dict(headers or {})
    if document.status in (429, 503):
        answer.setdefault("Retry-After", str(details.get("retry_after_s", RETRY_AFTER_S)))
    if getattr(request.state, "body_unread", False):
        answer["Connection"] = "close"
    body = document.model_dump_json(exclude_none=True)
    return Response(body, document.status, headers=answer, media_type=MEDIA_TYPE)


def graftery_error(request: Request, error: GrafteryError) -> Response:
    headers = error.details.pop("headers", None)
    return problem(request, error.code, error.message, hint=error.hint, headers=headers, **error.details)


def validation_error(request: Request, error: RequestValidationError) -> Response:
    """422 with the place and the reason of the first disagreement in words, and of all of them in `errors`."""
    errors = error.errors()
    wrong = [_in_words(request, each) for each in errors] or [Wrong("request", "cannot be read", [])]
    in_recipe = bool(errors) and all(tuple(each["loc"][:2]) == _RECIPE for each in errors)
    code = "recipe_invalid" if in_recipe else "request_invalid"
    return problem(request, code, f"{wrong[0].at}: {wrong[0].problem}", **details_of(wrong))


def _in_words(request: Request, error: Mapping[str, Any]) -> Wrong:
    """A disagreement within the body in the words of its model; in the framework's words where it is elsewhere."""
    place, body = tuple(error["loc"]), getattr(request.scope.get("route"), "body_field", None)
    model = None if body is None else body.field_info.annotation
    if place[:1] != ("body",) or not (isinstance(model, type) and issubclass(model, BaseModel)):
        return Wrong(".".join(map(str, place)), str(error["msg"]), [])
    return wrong_fields([{**error, "loc": place[1:]}], model, "body")[0]


def http_exception(request: Request, error: HTTPException) -> Response:
    """What the router refuses by itself: no such path, no such method."""
    code = _CODE_OF_STATUS.get(error.status_code, "request_invalid" if error.status_code < 500 else "internal")
    if error.status_code == 405:
        allowed = ", ".join(allowed_methods(request))
        detail = f"{request.url.path} does not take {request.method}"
        return problem(request, code, detail, hint=f"it takes {allowed}", headers={"Allow": allowed})
    if error.status_code == 404:
        return problem(
            request, code, f"there is no path {request.url.path}", hint="see /openapi.json for what there is"
        )
    return problem(request, code, str(error.detail), headers=error.headers)


def allowed_methods(request: Request) -> list[str]:
    """Every method that some route takes at this path; the router alone names those of the first route only."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        regex = getattr(route, "path_regex", None)
        if regex is not None and regex.match(request.scope["path"]):
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document; unknown exceptions are caught by `app.edge.middleware`."""
    app.exception_handler(GrafteryError)(graftery_error)
    app.exception_handler(RequestValidationError)(validation_error)
    app.exception_handler(HTTPException)(http_exception)


def examples_of(codes: tuple[str, ...]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these codes: one entry a status, one example a code.

    The statuses' schema is added by `app.edge.openapi`.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = PROBLEMS[code]
        entry = responses.setdefault(
            status, {"description": title, "content": {MEDIA_TYPE: {"schema": _PROBLEM_REF, "examples": {}}}}
        )
        example = problem_document(code, title).model_dump(exclude_none=True)
        entry["content"][MEDIA_TYPE]["examples"][code] = {"summary": title, "value": example}
    return responses


_PROBLEM_REF = {"$ref": "#/components/schemas/ProblemDocument"}
EVERYWHERE = ("request_invalid", "unauthenticated", "forbidden", "rate_limited", "request_timeout", "internal")


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """`responses=` for a route that can answer with these codes, and with those that every route has."""
    return examples_of((*codes, *EVERYWHERE))

"""What a service's answer means: every refusal becomes the GrafteryError that the library itself would raise."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from graftery.errors import (
    AccessRefused,
    Conflict,
    CutRefused,
    GrafteryError,
    GraphRefused,
    HeaderRefused,
    InferenceRefused,
    Misfit,
    ModuleFileError,
    NotFound,
    RecipeRefused,
    SamplesRefused,
    ServiceError,
    ShapesRefused,
    StoreError,
    TraceRefused,
    TrainingFailed,
    Unavailable,
    WeightsRefused,
)

_CODES: dict[type[GrafteryError], str] = {
    GrafteryError: "name_invalid request_invalid",
    ModuleFileError: "module_file_invalid verify_limit",
    HeaderRefused: "file_too_large file_truncated header_too_large header_invalid header_duplicate_key tensor_count "
    "tensor_invalid tensor_offsets document_invalid format_version manifest_invalid",
    GraphRefused: "graph_invalid graph_too_large operator_refused arguments_invalid value_undefined value_redefined "
    "weight_missing weight_unused batch_norm_training",
    ShapesRefused: "shapes_invalid work_too_large batch_mixing",
    WeightsRefused: "weights_invalid probe_mismatch gradient_invalid",
    TraceRefused: "trace_unsupported",
    CutRefused: "cut_not_found cut_not_separating",
    Misfit: "shape_mismatch preprocessing_mismatch semantics_mismatch kind_mismatch group_mismatch architecture_mismatch "
    "class_known target_changed localization_failed",
    RecipeRefused: "recipe_invalid samples_missing common_classes group_untrained class_unknown position_invalid "
    "checkpoint_refused",
    SamplesRefused: "samples_invalid samples_overlap",
    TrainingFailed: "diverged out_of_memory crashed job_failed frozen_changed at_chance",
    NotFound: "not_found yanked",
    Conflict: "conflict kind_conflict has_dependents job_state idempotency_conflict precondition_failed "
    "upload_offset upload_incomplete tus_version",
    StoreError: "store_full store_corrupt digest_mismatch quota_exceeded",
    InferenceRefused: "inference_invalid",
    AccessRefused: "unauthenticated forbidden",
    Unavailable: "not_ready unavailable rate_limited",
}
_CLASS = {code: cls for cls, codes in _CODES.items() for code in codes.split()}
_V2_CLASS = {400: InferenceRefused, 404: NotFound, 503: Unavailable}
_V2_CODE = {
    401: "unauthenticated",
    403: "forbidden",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    504: "deadline_exceeded",
}
_KNOWN = {"type", "title", "status", "detail", "code", "hint"}

_Model = TypeVar("_Model", bound=BaseModel)


def error_from(code: str, message: str, *, hint: str | None = None, **details: Any) -> GrafteryError:
    """The error of the class that raises this code; ServiceError for a code that only a service has."""
    return _CLASS.get(code, ServiceError)(message, code=code, hint=hint, **details)


def refusal(response: httpx.Response) -> GrafteryError:
    """The error in a response whose body has been read: a problem document, or a /v2 error, or neither."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("code"), str):
        return _of_problem(document, response.status_code)
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        return _of_v2(document["error"], response.status_code)
    return _not_ours(response)


def parse(model: type[_Model], response: httpx.Response) -> _Model:
    """The answer's body as a model of the vocabulary.

    Raises:
        ServiceError: the body is something else; the service may be of another version.
    """
    try:
        return TypeAdapter(model).validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ServiceError(
            f"the answer of {response.request.method} {response.request.url} is no {model.__name__}: "
            f"{where}: {first['msg']}",
            hint="client and service may be of different versions",
        ) from None


def json_of(response: httpx.Response) -> Any:
    """The answer's body as JSON.

    Raises:
        ServiceError: it is something else.
    """
    try:
        return response.json()
    except ValueError:
        raise ServiceError(
            f"the answer of {response.request.method} {response.request.url} is not JSON",
            hint="is this the address of a Graftery service?",
        ) from None


def _of_problem(document: dict[str, Any], status: int) -> GrafteryError:
    details = {key: value for key, value in document.items() if key not in _KNOWN and value is not None}
    message = str(document.get("detail") or document.get("title") or document["code"])
    return error_from(document["code"], message, hint=document.get("hint"), status=status, **details)


def _of_v2(message: str, status: int) -> GrafteryError:
    if status in _V2_CODE:
        return error_from(_V2_CODE[status], message, status=status)
    cls = _V2_CLASS.get(status, ServiceError)
    return cls(message, status=status)


def _not_ours(response: httpx.Response) -> GrafteryError:
    """An answer without our code: a proxy's page, or a service that is not Graftery."""
    status = response.status_code
    begin = " ".join(response.text.split())[:120]
    text = f"{response.request.method} {response.request.url} answered {status} {response.reason_phrase}".strip()
    if status in {502, 503, 504}:
        return Unavailable(f"{text}: {begin}" if begin else text, status=status)
    return ServiceError(
        f"{text}: {begin}" if begin else text, status=status, hint="is this the address of a Graftery service?"
    )


def known_codes() -> frozenset[str]:
    """The codes that have a class of their own; the others become ServiceError with that code."""
    return frozenset(_CLASS)

"""From an error to the status of gRPC, by the HTTP status of its code (`graftery.spec.problems`)."""

from __future__ import annotations

from typing import Any

import structlog
from grpc import StatusCode

from graftery.errors import GrafteryError
from graftery.spec.problems import status_of
from serving.gate import RETRY_AFTER_S

log = structlog.get_logger("graftery.inference")

STATUS: dict[int, StatusCode] = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    405: StatusCode.UNIMPLEMENTED,
    409: StatusCode.FAILED_PRECONDITION,
    412: StatusCode.FAILED_PRECONDITION,
    413: StatusCode.RESOURCE_EXHAUSTED,
    415: StatusCode.INVALID_ARGUMENT,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
    507: StatusCode.RESOURCE_EXHAUSTED,
}
UNKNOWN = "the service met an error that it does not know; its log has the details"


def refusal(error: Exception, call: str) -> tuple[StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status, message and trailing metadata: the error's code, and seconds to wait where it can be tried again."""
    if not isinstance(error, GrafteryError):
        log.error("unhandled error", call=call, exc_info=error)
        return StatusCode.INTERNAL, UNKNOWN, (("graftery-code", "internal"),)
    http = status_of(error.code)
    if http >= 500:
        log.warning("inference refused", code=error.code, cause=str(error))
    trailing = [("graftery-code", error.code)]
    if http in (429, 503):
        trailing.append(("retry-after", str(error.details.get("retry_after_s", RETRY_AFTER_S))))
    return STATUS.get(http, StatusCode.INTERNAL), str(error), tuple(trailing)


async def abort(context: Any, error: Exception, call: str) -> None:
    """End a call with an error's status; does not return."""
    await context.abort(*refusal(error, call))

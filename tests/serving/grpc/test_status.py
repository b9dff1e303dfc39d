"""Every HTTP status that a code can have has a status of gRPC, and what is unknown tells nothing about the inside."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from graftery.errors import GrafteryError, InferenceRefused, NotFound, Unavailable
from graftery.spec.problems import PROBLEMS
from serving.grpc import status


def test_every_code_has_a_status() -> None:
    outside = {"range_invalid", "request_timeout", "service_error"}  # of HTTP and of the client
    assert [
        code for code, problem in PROBLEMS.items() if problem.status not in status.STATUS and code not in outside
    ] == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InferenceRefused("no"), StatusCode.INVALID_ARGUMENT),
        (InferenceRefused("no", code="request_too_large"), StatusCode.RESOURCE_EXHAUSTED),
        (NotFound("no"), StatusCode.NOT_FOUND),
        (Unavailable("no"), StatusCode.UNAVAILABLE),
        (Unavailable("no", code="not_ready"), StatusCode.UNAVAILABLE),
        (GrafteryError("no"), StatusCode.INTERNAL),
    ],
)
def test_errors_keep_their_message_and_code(error: GrafteryError, expected: StatusCode) -> None:
    found, text, trailing = status.refusal(error, "ModelInfer")
    assert (found, text) == (expected, "no")
    assert dict(trailing)["graftery-code"] == error.code
    assert ("retry-after" in dict(trailing)) == (expected == StatusCode.UNAVAILABLE)


def test_an_unknown_error_is_internal_and_says_nothing() -> None:
    found, text, _ = status.refusal(KeyError("secret"), "ModelInfer")
    assert found == StatusCode.INTERNAL and "secret" not in text

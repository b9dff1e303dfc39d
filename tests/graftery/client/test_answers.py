from __future__ import annotations

import httpx
import pytest

from graftery.client.answers import error_from, known_codes, parse, refusal
from graftery.errors import (
    Conflict,
    GrafteryError,
    HeaderRefused,
    InferenceRefused,
    Misfit,
    NotFound,
    RecipeRefused,
    ServiceError,
    TrainingFailed,
    Unavailable,
)
from graftery.spec.problems import PROBLEMS
from graftery.spec.wire import Health

REQUEST = httpx.Request("GET", "http://here/v1/modules/cat")


def answer(status: int, **content: object) -> httpx.Response:
    return httpx.Response(status, request=REQUEST, **content)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        ("not_found", NotFound),
        ("yanked", NotFound),
        ("has_dependents", Conflict),
        ("shape_mismatch", Misfit),
        ("header_too_large", HeaderRefused),
        ("diverged", TrainingFailed),
        ("group_mismatch", Misfit),
        ("at_chance", TrainingFailed),
        ("target_changed", Misfit),
        ("class_unknown", RecipeRefused),
        ("not_ready", Unavailable),
        ("method_not_allowed", ServiceError),
        ("a_code_of_tomorrow", ServiceError),
    ],
)
def test_a_code_becomes_the_class_that_raises_it(code: str, cls: type[GrafteryError]) -> None:
    error = error_from(code, "no")
    assert type(error) is cls
    assert error.code == code


def test_every_class_gets_back_the_code_that_it_has_by_default() -> None:
    def subclasses(cls: type[GrafteryError]) -> set[type[GrafteryError]]:
        return {cls}.union(*(subclasses(sub) for sub in cls.__subclasses__()))

    # A class without a code of its own says more in the process that raises it; its code is another's.
    for cls in (cls for cls in subclasses(GrafteryError) - {GrafteryError} if "code" in vars(cls)):
        assert type(error_from(cls.code, "")) is cls


def test_no_code_is_misspelt() -> None:
    assert known_codes() - set(PROBLEMS) == frozenset()


def test_a_problem_document_keeps_code_hint_and_what_is_near() -> None:
    document = {"type": "x", "title": "t", "status": 404, "detail": "no cat", "code": "not_found", "hint": "look"}
    error = refusal(answer(404, json=document | {"near": ["cats"], "request_id": "r1"}))
    assert isinstance(error, NotFound)
    assert (error.message, error.code, error.hint) == ("no cat", "not_found", "look")
    assert error.details == {"near": ["cats"], "request_id": "r1", "status": 404}


@pytest.mark.parametrize(
    ("status", "cls"), [(400, InferenceRefused), (404, NotFound), (503, Unavailable), (500, ServiceError)]
)
def test_an_error_of_the_inference_protocol(status: int, cls: type[GrafteryError]) -> None:
    error = refusal(answer(status, json={"error": "input x0 has NaN"}))
    assert type(error) is cls
    assert error.message == "input x0 has NaN"


@pytest.mark.parametrize(
    ("status", "body", "cls"),
    [(502, "<html>Bad\ngateway</html>", Unavailable), (404, "nothing here", ServiceError), (500, "[1]", ServiceError)],
)
def test_a_stranger_s_page_is_named_as_such(status: int, body: str, cls: type[GrafteryError]) -> None:
    error = refusal(answer(status, text=body))
    assert type(error) is cls
    assert "http://here/v1/modules/cat" in error.message
    assert "\n" not in str(error)


def test_an_answer_of_another_form_is_no_traceback() -> None:
    with pytest.raises(ServiceError, match="status: Input should be"):
        parse(Health, answer(200, json={"status": "splendid", "version": "9"}))
    with pytest.raises(ServiceError, match="is no Health"):
        parse(Health, answer(200, text="<html>"))

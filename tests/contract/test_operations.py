"""Every operation of the OpenAPI document, on a service that asks for keys: it keeps to the document, whatever is sent.

Each is sent the boundaries of its schema one by one, methods that it does not have, and data at random: such as the
document allows, also about what is there, and such as it forbids. All checks of schemathesis look at each answer.
`make test-openapi` sends many times as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from app.main import ROUTERS
from app.routes import health
from serving import openinference
from tests.support.openapi import TIMES, Whole, is_unsaid, whole

EXAMPLES = 5
UPLOADS = 3
# What is right by its schema, and refused all the same: at the boundaries it would keep the rest from being looked at.
_NEVER_RIGHT = {"cursor", "upload", "digest", "if-match", "repr-digest"}
_LISTS = {"id", "tag"}
BOTH = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
OPERATIONS = sorted(
    (
        (method, route.path)
        for room in (*ROUTERS, health, openinference)
        for route in room.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    ),
    key=lambda each: (each[0] == "DELETE", each),  # last, so that the others find something
)


@pytest.fixture(scope="module")
def guarded(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    home = tmp_path_factory.mktemp("operations")
    # Every success is asked for again with a wrong key: more often than a wrong one is let try.
    with whole(_sqlite_template, home, access="keys", refused_rate="1000000/second") as made:
        yield made


def test_these_are_all(guarded: Whole) -> None:
    found = {(method.upper(), path) for path, methods in guarded.app.openapi()["paths"].items() for method in methods}
    assert found == set(OPERATIONS)


def _check(guarded: Whole, case: Any) -> None:
    response = case.call(headers=guarded.headers)
    excluded = [positive_data_acceptance] if is_unsaid(response) else []
    if "Authorization" in {mutation.parameter for mutation in case.meta.phase.data.mutations}:
        excluded.append(
            negative_data_rejection
        )  # a key that was left out is sent; it is `ignored_auth` that sends none
    if any(not isinstance(case.query[name], str | list) for name in _LISTS & case.query.keys()):
        excluded.append(negative_data_rejection)  # a query has texts alone: `?id=false` is a list of one id
    case.validate_response(response, headers=guarded.headers, excluded_checks=excluded)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda value: value)
def test_at_the_boundaries(guarded: Whole, method: str, path: str) -> None:
    operation, known = guarded.api[path][method], guarded.known_at(path)
    generation = guarded.api.config.generation_for(operation=operation, phase="coverage")
    cases = guarded.api.iter_coverage_cases(operation, generation_modes=BOTH, generation_config=generation)
    for case in cases:
        if known and not case.meta.is_negative_at(ParameterLocation.PATH):
            case.path_parameters = known
        for location, sent in ((ParameterLocation.QUERY, case.query), (ParameterLocation.HEADER, case.headers)):
            for name in _NEVER_RIGHT & sent.keys() if not case.meta.is_negative_at(location) else ():
                del sent[name]
        _check(guarded, case)


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda value: value)
def test_with_anything(guarded: Whole, method: str, path: str) -> None:
    operation, known = guarded.api[path][method], guarded.known_at(path)
    cases = operation.as_strategy()
    if known:
        cases |= operation.as_strategy(path_parameters=known)
    if known or operation.body or operation.query:
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    if known and (operation.body or operation.query):
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE, path_parameters=known)

    @given(case=cases)
    @settings(
        max_examples=TIMES * (UPLOADS if method == "PUT" else EXAMPLES),
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def keeps_to_it(case: Any) -> None:
        _check(guarded, case)

    keeps_to_it()

"""The plane keeps to its OpenAPI document, whatever it is asked."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving import openinference
from tests.support.inference import mounted
from tests.support.world import NETWORK, World

KNOWN = {"name": NETWORK, "version": "1"}
OPERATIONS = sorted((method, route.path) for route in openinference.router.routes for method in route.methods)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def api(live_world: World) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", mounted(live_world))


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda value: value)
def test_the_plane_keeps_to_its_document(api: Any, method: str, path: str) -> None:
    operation = api[path][method]
    known = {name: value for name, value in KNOWN.items() if f"{{{name}}}" in path}
    cases = operation.as_strategy() | operation.as_strategy(path_parameters=known)
    if known or operation.body:
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    # A tensor that fits the schema does not yet fit the model; a schema cannot say that. Nor that `unload` came before.
    unsaid = path.endswith(("/infer", "/ready"))

    @given(case=cases)
    @settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def keeps_to_it(case: Any) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance] if unsaid else [])

    keeps_to_it()

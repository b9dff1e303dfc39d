"""Requests that follow the links of the OpenAPI document: what was made is there, what was deleted is gone.

A scenario begins with something that makes or lists, and goes on with what the answers link to. All checks of
schemathesis look at each answer, and at what came before it. `make test-openapi` goes on for many times as long.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance, use_after_free

from graftery.errors import GrafteryError
from registry import jobs
from tests.support.openapi import TIMES, Whole, is_unsaid, lead_somewhere, whole

# All of it, and what is seldom come to from there.
ROOMS = ("", "^/v1/networks|^/v1/versions|^/v2/models", "^/v1/generic")
SCENARIOS = 20
STEPS = 40
SETTINGS = settings(
    max_examples=TIMES * SCENARIOS,
    stateful_step_count=STEPS,
    phases=[Phase.generate],
    deadline=None,
    derandomize=TIMES == 1,
    database=None,
    suppress_health_check=list(HealthCheck),
)


# By design there after a DELETE: what a key was, as its name is never given again; where an alias has pointed.
_KEPT = re.compile(r"/v1/keys/\{name\}|/v1/modules/\{name\}/aliases/\{alias\}/history")
# Every so many requests is sent as it was drawn, the others with bytes and references that lead to something.
AS_DRAWN = 4


@pytest.fixture(scope="module")
def opened(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Without keys: a scenario revokes what it finds."""
    with whole(_sqlite_template, tmp_path_factory.mktemp("workflows"), access="open") as made:
        yield made


class _Names:
    """Names that were deleted and then given anew: `cat:1` is another version then, at paths that do not tell it."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.anew: set[str] = set()

    def see(self, case: Any, response: Any) -> None:
        name = self.of(case)
        if response.status_code == 204 and (case.method, case.operation.path) == ("DELETE", "/v1/modules/{name}"):
            self.gone.add(name)
            self.anew.discard(name)
        elif response.status_code == 201:  # a teacher gives NAME-teacher, NAME-OUTPUT, ..., too
            self.anew |= {each for each in self.gone if each == name or each.startswith(f"{name}-")}

    @staticmethod
    def of(case: Any) -> str:
        """The name that a request is about: in its path, in a reference there, or in its body."""
        path, body = case.path_parameters or {}, case.body if isinstance(case.body, dict) else {}
        found = path.get("name") or path.get("ref") or body.get("name", "")
        return re.split("[:@]", unquote(str(found)))[0]


def _machine(opened: Whole, room: str, succeeded: Counter[str]) -> Any:
    """Scenarios that each begin with what was there at first, over the operations of these paths."""
    machine: Any = opened.api.include(path_regex=room).as_state_machine()

    class Scenario(machine):  # type: ignore[misc]
        def setup(self) -> None:
            opened.restore()
            self.sent = 0
            self.names = _Names()

        def before_call(self, case: Any) -> None:
            self.sent += 1
            if self.sent % AS_DRAWN:
                lead_somewhere(case)
            case.headers.update({name: str(value) for name, value in case.headers.items()})  # a link's may be a number
            if case.operation.path.endswith("/events"):
                _end(opened, case.path_parameters["id"])

        def validate_response(self, response: Any, case: Any, **options: Any) -> None:
            excluded = [negative_data_rejection]  # nothing is: a number of a link, sent as text, is taken for it
            excluded += [positive_data_acceptance] if is_unsaid(response) else []
            self.names.see(case, response)
            there = _KEPT.fullmatch(case.operation.path) or self.names.of(case) in self.names.anew
            excluded += [use_after_free] if there else []
            case.validate_response(response, excluded_checks=excluded, recorder=self.recorder)
            succeeded[case.operation.label] += 200 <= response.status_code < 300

    return Scenario


def _end(opened: Whole, id: str) -> None:
    """The events of a job that nobody works at would not end."""
    with suppress(GrafteryError), opened.app.state.database.transaction() as session:
        jobs.request_cancel(session, id)


@pytest.mark.slow
def test_what_is_linked_works(opened: Whole) -> None:
    succeeded: Counter[str] = Counter()
    for room in ROOMS:
        _machine(opened, room, succeeded).run(settings=SETTINGS)
    linked = _linked(opened.app.openapi())
    never = sorted(linked - {label for label, times in succeeded.items() if times})
    assert len(linked) > 40
    assert len(never) < len(linked) / 5, f"nothing is learned of what never succeeds: {never}"


def _linked(document: dict[str, Any]) -> set[str]:
    """Operations that some answer links to: `GET /v1/jobs/{id}`."""
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    targets = {
        link["operationId"]
        for _, operation in operations
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    }
    return {label for label, operation in operations if operation["operationId"] in targets}

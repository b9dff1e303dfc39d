"""impact, yank and delete: what is touched is shown, and nothing that is served breaks without being asked."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from graftery.client.cli import run
from tests.support.scripted import Answer, Asked, Script, as_json, problem, scripted

Make = Callable[..., dict[str, Any]]
QUIET: dict[str, Any] = {"ref": "cat:1", "name": "cat", "kind": "category", "delete": {"refused": False}}
NAME = {"reference": "cat", "ref": "cat:1", "kind": "category", "served": True, "effect": "no_longer_resolved"}
LOUD: dict[str, Any] = QUIET | {"names": [NAME]}
UNSERVED: dict[str, Any] = QUIET | {"names": [NAME | {"served": False}]}
USED: dict[str, Any] = LOUD | {"delete": {"refused": True, "refused_by": ["net:1", "job j1"]}}


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Outcome:
    """Exit code, both outputs, and what was asked of the service: `POST yank`, `POST yank --dry-run`, `DELETE`, `GET`."""

    def __init__(self, code: int, out: str, err: str, asked: list[Asked]) -> None:
        self.code, self.out, self.err = code, out, err
        self.asked = [self._short(each) for each in asked]

    @staticmethod
    def _short(asked: Asked) -> str:
        if asked.method != "POST":
            return f"{asked.method} {asked.path}"
        return "dry run" if asked.json().get("dry_run") else "yank"


@pytest.fixture
def graftery(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, version: Make
) -> Callable[..., Outcome]:
    """Runs a command line against a service that foretells this impact; `typed`: what a person at a terminal answers."""

    def call(impact: dict[str, Any], *arguments: str, typed: str | None = None) -> Outcome:
        def yank(asked: Asked) -> Answer:
            return as_json(impact if asked.json().get("dry_run") else version(yanked=True, yank_reason="bad"))

        script: Script = {
            "POST /v1/versions/cat:1/yank": yank,
            "GET /v1/versions/cat:1/impact": lambda _: as_json(impact),
            "GET /v1/modules/cat/impact": lambda _: as_json(impact | {"ref": "cat"}),
            "DELETE /v1/versions/cat:1": lambda _: Answer(204),
            "DELETE /v1/modules/cat": lambda _: Answer(204),
        }
        monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else _Terminal(typed))
        with scripted(script) as server:
            code = run([*arguments, "--url", server.url])
        captured = capsys.readouterr()
        # What asks leaves a blank of its prompt on standard output.
        return Outcome(code, captured.out.lstrip(), captured.err, server.asked)

    return call


YANK = ("yank", "cat:1", "--reason", "bad")


def test_impact_is_a_list_or_json(graftery: Callable[..., Outcome]) -> None:
    found = graftery(LOUD, "impact", "cat:1")
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines()[:2] == ["cat:1  category", "  served now, and would break:"]
    whole = graftery(LOUD, "impact", "cat", "--json")
    assert (json.loads(whole.out)["ref"], whole.asked) == ("cat", ["GET /v1/modules/cat/impact"])


@pytest.mark.parametrize("impact", [QUIET, UNSERVED], ids=["nothing", "not served"])
def test_a_yank_that_breaks_nothing_that_is_served_does_not_ask(
    graftery: Callable[..., Outcome], impact: dict[str, Any]
) -> None:
    done = graftery(impact, *YANK)
    assert (done.code, done.out, done.asked) == (0, "cat:1 is yanked: bad\n", ["dry run", "yank"])
    assert done.err.startswith("cat:1  category\n")


def test_a_yank_that_breaks_something_asks(graftery: Callable[..., Outcome]) -> None:
    yes = graftery(LOUD, *YANK, typed="y\n")
    assert (yes.code, yes.out, yes.asked) == (0, "cat:1 is yanked: bad\n", ["dry run", "yank"])
    assert "served now, and would break" in yes.err and "Yank cat:1?" in yes.err
    no = graftery(LOUD, *YANK, typed="n\n")
    assert (no.code, no.out, no.asked) == (1, "", ["dry run"])
    assert no.err.splitlines()[-1].endswith("error[aborted]: nothing was done")


def test_nobody_can_be_asked(graftery: Callable[..., Outcome]) -> None:
    refused = graftery(LOUD, *YANK)
    assert (refused.code, refused.out, refused.asked) == (2, "", ["dry run"])
    assert refused.err.splitlines()[-1].startswith(
        "error[usage]: a yank of cat:1 would break cat: say --yes where nobody can be asked"
    )
    done = graftery(LOUD, *YANK, "--yes")
    assert (done.code, done.err, done.asked) == (0, "", ["yank"])
    assert json.loads(graftery(LOUD, *YANK, "--yes", "--json").out)["yanked"] is True


@pytest.mark.parametrize("more", [[], ["--yes"]])
def test_a_dry_run_changes_nothing(graftery: Callable[..., Outcome], more: list[str]) -> None:
    for arguments, asked in ((YANK, "dry run"), (("delete", "cat:1"), "GET /v1/versions/cat:1/impact")):
        shown = graftery(USED, *arguments, "--dry-run", *more)
        assert (shown.code, shown.err, shown.asked) == (0, "", [asked])
        assert "would break" in shown.out and "a delete is refused by" in shown.out
        assert json.loads(graftery(USED, *arguments, "--dry-run", "--json", *more).out)["names"] == [
            NAME | {"default": False, "then": None, "outputs": [], "why": []}
        ]


def test_a_delete_shows_and_asks(graftery: Callable[..., Outcome]) -> None:
    yes = graftery(LOUD, "delete", "cat:1", typed="y\n")
    assert yes.asked == ["GET /v1/versions/cat:1/impact", "DELETE /v1/versions/cat:1"]
    assert (yes.code, yes.out) == (0, "cat:1 is deleted; `graftery collect` frees its bytes\n")
    assert yes.err.index("served now, and would break") < yes.err.index("Delete cat:1 for good?")
    no = graftery(QUIET, "delete", "cat", typed="n\n")
    assert (no.code, no.asked) == (1, ["GET /v1/modules/cat/impact"])
    assert graftery(LOUD, "delete", "cat", "--yes").asked == ["DELETE /v1/modules/cat"]


@pytest.mark.parametrize(
    ("impact", "why"),
    [
        (LOUD, "a delete of cat:1 cannot be undone, and would break cat: say --yes"),
        (QUIET, "cannot be undone: say --yes"),
    ],
    ids=["served", "not served"],
)
def test_a_delete_is_for_good_so_it_always_asks(
    graftery: Callable[..., Outcome], impact: dict[str, Any], why: str
) -> None:
    refused = graftery(impact, "delete", "cat:1")
    assert (refused.code, refused.asked) == (2, ["GET /v1/versions/cat:1/impact"])
    assert why in refused.err.splitlines()[-1]


def test_nobody_is_asked_for_what_would_be_refused(graftery: Callable[..., Outcome]) -> None:
    refused = graftery(USED, "delete", "cat:1", typed="y\n")
    assert (refused.code, refused.asked) == (1, ["GET /v1/versions/cat:1/impact"])
    assert refused.err.splitlines()[-1] == (
        "error[has_dependents]: cat:1 cannot be deleted while others depend on it "
        "(delete or move these first, or yank it; used by net:1, job j1)"
    )


def test_what_the_service_refuses_is_said(graftery: Callable[..., Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(
        {"POST /v1/versions/cot:1/yank": lambda _: problem("not_found", 404, "no cot", near=["cat"])}
    ) as server:
        assert run(["yank", "cot:1", "--reason", "bad", "--url", server.url]) == 1
        assert [each.json() for each in server.asked] == [{"reason": "bad", "dry_run": True}]
    assert capsys.readouterr().err == "error[not_found]: no cot (did you mean cat?)\n"


def test_unyank(version: Make, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted({"POST /v1/versions/cat:1/unyank": lambda _: as_json(version())}) as server:
        assert run(["unyank", "cat:1", "--url", server.url]) == 0
    assert capsys.readouterr().out == "cat:1 is back\n"

"""`graftery keys` and `graftery audit`: against a scripted service, and on a database of its own."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from graftery.client import credentials
from graftery.client.cli import KEYS, run
from tests.support.scripted import Script, as_json, problem, scripted

AT = "2026-01-02T03:04:05Z"
KEY = {
    "name": "ci",
    "id": "0123456789ab",
    "scopes": ["push"],
    "namespaces": ["vision"],
    "state": "active",
    "created_at": AT,
    "created_by": "root",
    "expires_at": AT,
}
MADE = KEY | {"secret": "gft_0123456789ab_secret"}


@pytest.fixture(autouse=True)
def no_key_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def graftery(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(script: Script, *arguments: str) -> tuple[int, str, str, list[Any]]:
        with scripted(script) as server:
            monkeypatch.setenv("GRAFTERY_URL", server.url)
            code = run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err, server.asked

    return call


@pytest.mark.parametrize("verb", KEYS)
def test_every_help_has_examples_that_are_this_verb_s(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"graftery keys {verb}" in out.split("Examples:")[1]
    assert "--url" in out and "--json" in out


def test_a_new_key_is_shown_alone_on_standard_output(graftery: Any) -> None:
    script: Script = {"PUT /v1/keys/ci": lambda _: as_json(MADE, 201)}
    options = ["--scope", "push", "--namespace", "vision", "--expires", "90d"]
    code, out, err, asked = graftery(script, "keys", "create", "ci", *options)
    assert (code, out) == (0, "gft_0123456789ab_secret\n")
    assert "shown once" in err and "gft_" not in err
    assert asked[0].json() == {"scopes": ["push"], "namespaces": ["vision"], "expires_in_s": 90 * 86400.0}


def test_keys_are_listed(graftery: Any) -> None:
    script: Script = {"GET /v1/keys": lambda _: as_json({"items": [KEY], "next": None})}
    _, out, _, _ = graftery(script, "keys", "list")
    assert re.search(r"^ci +0123456789ab +active +push +vision ", out, re.MULTILINE)
    _, out, _, _ = graftery(script, "keys", "list", "--json")
    assert json.loads(out)[0]["id"] == "0123456789ab"


def test_a_rotation_and_a_revocation(graftery: Any) -> None:
    script: Script = {
        "PUT /v1/keys/ci/secret": lambda _: as_json(MADE),
        "DELETE /v1/keys/ci": lambda _: as_json({}, 200),
    }
    code, out, _, asked = graftery(script, "keys", "rotate", "ci", "--overlap", "12h")
    assert (code, out) == (0, "gft_0123456789ab_secret\n")
    assert asked[0].json() == {"overlap_s": 43200.0}
    assert graftery(script, "keys", "revoke", "ci")[0] == 0


def test_a_refusal_is_one_line(graftery: Any) -> None:
    script: Script = {
        "GET /v1/keys": lambda _: problem("unauthenticated", 401, "this service asks for a key", hint="h")
    }
    assert graftery(script, "keys", "list")[:3] == (
        1,
        "",
        "error[unauthenticated]: this service asks for a key (h)\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "ci"],
        ["create", "ci", "--scope", "push", "--expires", "soon"],
        ["rotate", "ci", "--overlap", "1"],
        [],
    ],
)
def test_wrong_usage_has_exit_code_2(graftery: Any, arguments: list[str]) -> None:
    assert graftery({}, "keys", *arguments)[0] == 2


@pytest.mark.parametrize("options", [["--scope", "root"], ["--scope", "admin", "--namespace", "vision"]])
@pytest.mark.parametrize("where", [[], ["--local"]])
def test_what_makes_no_sense_is_refused_in_both_ways(
    graftery: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], where: list[str]
) -> None:
    monkeypatch.setenv("GRAFTERY_HOME", str(tmp_path))
    code, out, err, asked = graftery({}, "keys", "create", "ci", *options, *where)
    assert (code, out, asked) == (1, "", [])
    assert err.splitlines()[-1].startswith("error[request_invalid]: ")


def test_on_the_database_itself(graftery: Any, tmp_path: Path) -> None:
    """From a home that is not there yet."""
    home = ["--home", str(tmp_path / "home")]
    code, secret, _, _ = graftery({}, "keys", "create", "ci", "--scope", "push", *home)
    assert code == 0 and re.fullmatch(r"gft_[0-9a-f]{12}_[\w-]{43}\n", secret)
    assert graftery({}, "keys", "revoke", "ci", *home)[0] == 0
    _, out, _, _ = graftery({}, "keys", "list", "--json", *home)
    (key,) = json.loads(out)
    assert (key["name"], key["state"], key["created_by"][:6]) == ("ci", "revoked", "local ")


def test_a_key_is_kept_for_a_service_and_read_from_standard_input(
    graftery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("gft_0123456789ab_secret\n"))
    code, out, _, _ = graftery({}, "keys", "save", "--url", "http://one.example/")
    assert code == 0 and "gft_" not in out
    assert credentials.key_for("http://one.example") == "gft_0123456789ab_secret"
    assert graftery({}, "keys", "save", "--forget", "--url", "http://one.example")[0] == 0
    assert credentials.key_for("http://one.example") is None
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert graftery({}, "keys", "save")[0] == 1


def test_the_audit_log_is_listed(graftery: Any) -> None:
    row = {"id": 1, "at": AT, "by": "ci", "action": "publish", "what": "cat:1", "request_id": "r1", "details": None}
    script: Script = {"GET /v1/audit": lambda _: as_json({"items": [row, row | {"by": None}], "next": None})}
    code, out, _, asked = graftery(script, "audit", "--name", "cat", "--by", "ci", "--action", "publish")
    assert code == 0
    assert re.search(r" ci +publish +cat:1 +r1$", out, re.MULTILINE)
    assert {key: asked[0].query[key] for key in ("name", "by", "action")} == {
        "name": ["cat"],
        "by": ["ci"],
        "action": ["publish"],
    }
